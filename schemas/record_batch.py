"""Kafka record batches as bytes: messages that go together tick after tick are framed once and compressed with LZ4 at
its fast level.

aiokafka's own LZ4 runs at level 9, 25 times slower, and its builder copies a batch several times while it grows.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import lz4.frame
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c

#: Record batch, version 2. Up to the CRC: base offset, length, leader epoch, magic, CRC; what the CRC covers:
#: attributes, last offset delta, first and last time stamp, producer id and epoch, base sequence, records.
#: https://kafka.apache.org/documentation/#recordbatch
_HEAD, _COVERED = struct.Struct(">qiibI"), struct.Struct(">hiqqqhii")
_LZ4 = 3
_NO_HEADERS = b"\x00"
BATCH_BYTES = 4 << 20  # before compression


@dataclass(frozen=True, eq=False, slots=True)
class Chunk:
    """Messages of one partition that share a batch: their numbers, and the bytes that stand before, between and after
    them.
    """

    partition: int
    numbers: tuple[int, ...]
    frame: tuple[bytes, ...]
    size: int

    def records(self, messages: Sequence[bytes | memoryview]) -> bytes:
        """All `messages` with these numbers as compressed records; Kafka's Java reader takes independent LZ4 blocks
        only.
        """
        whole = b"".join(
            [*chain.from_iterable(zip(self.frame, [messages[n] for n in self.numbers], strict=False)), _NO_HEADERS]
        )
        packed: bytes = lz4.frame.compress(
            whole, compression_level=-4, block_size=lz4.frame.BLOCKSIZE_MAX256KB, block_linked=False
        )
        return packed


def single(key: bytes, value: bytes, now_ms: int) -> RecordBatchV2:
    """One message as a batch of its own."""
    return RecordBatchV2(_chunk(0, [0], [key], [len(value)]).records([value]), 1, now_ms)


def cut(keys: Sequence[bytes], sizes: Sequence[int], partitions: Sequence[int]) -> list[Chunk]:
    """Messages with these keys and sizes (bytes) in batches, by the rule of Kafka's own clients; a batch for each
    partition in turn.
    """
    choose = DefaultPartitioner()
    by_partition: dict[int, list[int]] = {}
    for number, key in enumerate(keys):
        by_partition.setdefault(choose(key, list(partitions), list(partitions)), []).append(number)
    cuts = [
        [_chunk(partition, part, keys, sizes) for part in _fitting(numbers, sizes)]
        for partition, numbers in by_partition.items()
    ]
    return [chunk for row in zip_longest(*cuts) for chunk in row if chunk is not None]


class RecordBatchV2(BatchBuilder):  # type: ignore[misc]
    """A record batch that is whole: `records` compressed, `count` of them, all with the time stamp `now_ms`."""

    def __init__(self, records: bytes, count: int, now_ms: int) -> None:
        self._records, self._count, self._now_ms = records, count, now_ms
        self._producer = (-1, -1, -1)
        self._whole: bytes | None = None

    def append(self, **_: object) -> None:
        """There is no room."""

    def close(self) -> None:
        """It is closed."""

    def closed(self) -> bool:
        return True

    def record_count(self) -> int:
        return self._count

    def size(self) -> int:
        return _HEAD.size + _COVERED.size + len(self._records)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._whole is None:
            covered = (
                _COVERED.pack(_LZ4, self._count - 1, self._now_ms, self._now_ms, *self._producer, self._count)
                + self._records
            )
            self._whole = _HEAD.pack(0, len(covered) + 9, -1, 2, calc_crc32c(covered)) + covered
        return self._whole


def _fitting(numbers: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """Numbers of messages that fit one batch together."""
    out: list[list[int]] = []
    size = BATCH_BYTES
    for number in numbers:
        room = sizes[number] + 128  # a record's own framing
        if size + room > BATCH_BYTES:
            out.append([])
            size = 0
        out[-1].append(number)
        size += room
    return out


def _chunk(partition: int, numbers: Sequence[int], keys: Sequence[bytes], sizes: Sequence[int]) -> Chunk:
    frame = []
    for delta, number in enumerate(numbers):
        key, size = keys[number], sizes[number]
        head = (
            b"\x00\x00" + _varint(delta) + _varint(len(key)) + key + _varint(size)
        )  # attributes and time stamp delta are 0
        frame.append((_NO_HEADERS if delta else b"") + _varint(len(head) + size + 1) + head)
    return Chunk(partition, tuple(numbers), tuple(frame), sum(sizes[n] for n in numbers))


def _varint(value: int) -> bytes:
    """Zigzag, seven bits a byte, as Kafka writes lengths."""
    value, out = value << 1, bytearray()
    while value > 0x7F:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)
