"""Record batches against aiokafka: its reader reads them, and its producer calls nothing that they do not have."""

from __future__ import annotations

import ast
import asyncio
import inspect
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator, MessageBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from schemas.record_batch import BATCH_BYTES, RecordBatchV2, cut, single

NOW = 1_750_000_000_000


@pytest.mark.parametrize("count", [1, 63, 64, 200])  # offsets of one byte and of two
def test_a_batch_is_what_kafka_reads_and_much_smaller(count: int) -> None:
    values = [b"x" * 1000 + b"%d" % n for n in range(count)]
    keys = [b"k%d" % n for n in range(count)]
    (chunk,) = cut(keys, [*map(len, values)], lambda _: 0)
    batch = RecordBatchV2(chunk.records(values), count, NOW, calc_crc32c)
    batch._set_producer_state(7, 1, 30)
    data = batch._build()
    assert batch._build() is data, "built once, sent again as it is"
    assert len(data) == batch.size()
    records = MemoryRecords(data)
    found = records.next_batch()
    assert found.validate_crc()
    assert (found.producer_id, found.producer_epoch, found.base_sequence) == (7, 1, 30)
    assert [(r.offset, r.key, r.value, r.timestamp) for r in found] == [
        (n, keys[n], values[n], NOW) for n in range(count)
    ]
    assert len(data) < sum(map(len, values)) / 8


def read(builder: Any) -> list[tuple[Any, ...]]:
    found = MemoryRecords(bytes(builder._build())).next_batch()
    return [(r.offset, r.key, r.value, r.timestamp, r.timestamp_type, r.headers) for r in found]


@given(st.binary(max_size=40), st.binary(max_size=300))
def test_a_single_message_reads_as_aiokafkas_own_builder_writes_it(key: bytes, value: bytes) -> None:
    theirs = BatchBuilder(1 << 20, 0)
    theirs.append(timestamp=NOW, key=key, value=value)
    assert read(single(key, value, NOW, calc_crc32c)) == read(theirs)


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=40), st.integers(1, 24))
def test_every_key_goes_to_the_partition_that_a_kafka_client_chooses(keys: list[bytes], count: int) -> None:
    partitions, choose = list(range(count)), DefaultPartitioner()
    chunks = cut(keys, [10] * len(keys), lambda key: choose(key, partitions, partitions))
    assert sorted(n for c in chunks for n in c.numbers) == list(range(len(keys)))
    for chunk in chunks:
        assert {choose(keys[n], partitions, partitions) for n in chunk.numbers} == {chunk.partition}


def test_messages_are_cut_into_batches_that_fit_each_partition_in_turn() -> None:
    keys, size = [b"s/R%d" % n for n in range(40)], BATCH_BYTES // 3
    choose = DefaultPartitioner()
    chunks = cut(keys, [size] * len(keys), lambda key: choose(key, [0, 1, 2, 3], [0, 1, 2, 3]))
    assert sorted(n for c in chunks for n in c.numbers) == list(range(40))
    assert max(len(c.numbers) for c in chunks) == 2, "three and their framing are too much"
    assert len({c.partition for c in chunks[:4]}) == 4


def test_it_has_every_method_that_aiokafka_calls_on_a_batch() -> None:
    """`send_batch` hands a builder to the accumulator, which wraps it in a MessageBatch: those two use it."""
    used = set()
    for theirs in (MessageBatch, MessageAccumulator):
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(theirs)))):
            if isinstance(node, ast.Attribute) and "builder" in ast.unparse(node.value):
                used.add(node.attr)
    assert used == {"append", "close", "closed", "record_count", "_set_producer_state", "_build"}
    for name in used | {"size"}:
        assert callable(getattr(RecordBatchV2, name)), name
        assert callable(getattr(BatchBuilder, name)), name
    ours, theirs = (inspect.signature(c._set_producer_state).parameters for c in (RecordBatchV2, BatchBuilder))
    assert list(ours) == list(theirs)
    assert "isinstance" not in inspect.getsource(AIOKafkaProducer.send_batch)


async def test_aiokafkas_accumulator_takes_it_and_gives_its_bytes_to_the_sender() -> None:
    class Cluster:
        def leader_for_partition(self, _: TopicPartition) -> int:
            return 0

    accumulator = MessageAccumulator(Cluster(), 1 << 20, 0, 30.0)
    partition = TopicPartition("telemetry.gpu", 0)
    done = await accumulator.add_batch(single(b"k", b"v", NOW, calc_crc32c), partition, 1.0)
    batches, _ = accumulator.drain_by_nodes(ignore_nodes=[])
    batch = batches[0][partition]
    assert batch.record_count == 1
    assert [(r.key, r.value) for r in MemoryRecords(bytes(batch.get_data_buffer())).next_batch()] == [(b"k", b"v")]
    batch.done(base_offset=5)
    assert (await asyncio.wait_for(done, 1)).offset == 5


def test_schemas_import_no_kafka_client() -> None:
    code = "import sys, schemas.record_batch, schemas.codec; assert not [m for m in sys.modules if 'aiokafka' in m]"
    subprocess.run([sys.executable, "-c", code], check=True)
