"""Kafka record batches as bytes: messages that go together tick after tick are framed once and compressed with LZ4 at
its fast level.

aiokafka's own LZ4 runs at level 9, 25 times slower (decision 0008), and its builder copies a batch several times while
it grows. Nothing here imports a Kafka client: its CRC32C and its partitioner are passed in.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import lz4.frame

#: Record batch, version 2. Up to the CRC: base offset, length, leader epoch, magic, CRC; what the CRC covers:
#: attributes, last offset delta, first and last time stamp, producer id and epoch, base sequence, records.
#: https://kafka.apache.org/documentation/#recordbatch
_HEAD, _COVERED = struct.Struct(">qiibI"), struct.Struct(">hiqqqhii")
_LZ4 = 3
_NO_HEADERS = b"\x00"
BATCH_BYTES = 4 << 20  # before compression

Crc32c = Callable[[bytes], int]


@dataclass(frozen=True, eq=False, slots=True)
class Chunk:
    """Messages of one partition that share a batch: their numbers, the bytes before each, and their size together."""

    partition: int
    numbers: tuple[int, ...]
    frame: tuple[bytes, ...]
    size: int

    def records(self, messages: Sequence[bytes | memoryview]) -> bytes:
        """Returns those of `messages` that have these numbers, as compressed records. LZ4 blocks are independent since
        Kafka's Java reader takes no others.
        """
        whole = b"".join(
            [*chain.from_iterable(zip(self.frame, [messages[n] for n in self.numbers], strict=False)), _NO_HEADERS]
        )
        packed: bytes = lz4.frame.compress(
            whole, compression_level=-4, block_size=lz4.frame.BLOCKSIZE_MAX256KB, block_linked=False
        )
        return packed


def single(key: bytes, value: bytes, now_ms: int, crc32c: Crc32c) -> RecordBatchV2:
    """Returns one message as a batch of its own."""
    return RecordBatchV2(_chunk(0, [0], [key], [len(value)]).records([value]), 1, now_ms, crc32c)


def cut(keys: Sequence[bytes], sizes: Sequence[int], partition_of: Callable[[bytes], int]) -> list[Chunk]:
    """Returns messages with these keys and sizes (bytes) in batches of at most BATCH_BYTES, a batch for each partition
    in turn; `partition_of` gives the partition of a key.
    """
    by_partition: dict[int, list[int]] = {}
    for number, key in enumerate(keys):
        by_partition.setdefault(partition_of(key), []).append(number)
    cuts = [
        [_chunk(partition, part, keys, sizes) for part in _fitting(numbers, sizes)]
        for partition, numbers in by_partition.items()
    ]
    return [chunk for row in zip_longest(*cuts) for chunk in row if chunk is not None]


class RecordBatchV2:
    """A finished record batch: `count` compressed `records`, all with the time stamp `now_ms`.

    Has the methods of aiokafka's `BatchBuilder` that its producer calls, private ones too, so `send_batch` takes it
    (tests/schemas/test_record_batch.py holds it to that).
    """

    def __init__(self, records: bytes, count: int, now_ms: int, crc32c: Crc32c) -> None:
        self._records, self._count, self._now_ms, self._crc32c = records, count, now_ms, crc32c
        self._producer = (-1, -1, -1)
        self._whole: bytes | None = None

    def append(self, **_: object) -> None:
        """Returns None: the batch is full."""

    def close(self) -> None:
        """Does nothing: the batch is closed."""

    def closed(self) -> bool:
        return True

    def record_count(self) -> int:
        return self._count

    def size(self) -> int:
        """Bytes of the whole batch."""
        return _HEAD.size + _COVERED.size + len(self._records)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._whole is None:
            covered = (
                _COVERED.pack(_LZ4, self._count - 1, self._now_ms, self._now_ms, *self._producer, self._count)
                + self._records
            )
            self._whole = _HEAD.pack(0, len(covered) + 9, -1, 2, self._crc32c(covered)) + covered
        return self._whole


def _fitting(numbers: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """Returns the numbers in groups whose messages fit one batch."""
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
