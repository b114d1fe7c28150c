"""Reads the same log with an undisturbed worker: its results must be the stored rows, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from aiokafka.partitioner import DefaultPartitioner
from clickhouse_connect.driver.client import Client

from pipeline import kafka
from pipeline.store.tables import TABLES
from pipeline.stream.context_feed import ContextFeed
from pipeline.stream.worker import Worker
from schemas import derived
from schemas.log_record import LogRecord
from schemas.tables import DATABASE, STORED
from schemas.topics import CONTEXT, PART_TOPIC, TELEMETRY

Compared = dict[str, Any]
#: An incident's columns that are a function of the log alone: how long it has been quiet is not.
_INCIDENT = ("incident", "opened", "kind", "device", "cause")


async def recompute(bootstrap: str, tick_ms: int) -> dict[str, pa.Table]:
    """Returns rows by derived stream, the last of each key, from the telemetry on the log."""
    out: dict[str, list[pa.RecordBatch]] = {}
    parts: list[bytes] = []

    async def publish(topic: str, _: bytes, value: bytes) -> None:
        stream, batch = derived.decode(value)
        out.setdefault(stream.name, []).append(batch)
        if topic == PART_TOPIC:
            parts.append(value)

    worker = Worker(publish, tick_ms)
    feed = ContextFeed(worker)
    numbers = range(len([tp for tp in await kafka.partitions(bootstrap) if tp.topic == TELEMETRY[0]]))
    choose = DefaultPartitioner()
    worker.partition_of = lambda key: int(choose(key, numbers, numbers))
    for topic in CONTEXT:
        for messages in (await kafka.read_whole(bootstrap, topic)).values():
            for message in messages:
                await feed.take(topic, message.value)
    for topic in TELEMETRY:
        for partition, messages in (await kafka.read_whole(bootstrap, topic)).items():
            await worker.process(topic, [(partition, messages)])
    await worker.process(PART_TOPIC, [(0, [LogRecord("", 0, n, 0, value) for n, value in enumerate(parts)])])
    return {
        name: _last(
            pa.concat_tables([pa.table(b) for b in batches], promote_options="default"), derived.DERIVED[name].key
        )
        for name, batches in out.items()
    }


def differences(client: Client, expected: dict[str, pa.Table]) -> dict[str, Compared]:
    """By stream: rows expected, stored, and `wrong`: missing, too many, or not the same to the last bit."""
    found: dict[str, Compared] = {}
    for name in (s.name for s in derived.DERIVED.values() if s.from_log):
        if name not in expected:
            continue
        columns = [c for c in derived.DERIVED[name].names if c in expected[name].column_names]
        found[name] = _compare(
            _columns(expected[name], columns, derived.DERIVED[name].key), _stored(client, name, columns)
        )
    if "incident" in expected:
        found["incident"] = _compare(
            _columns(expected["incident"], list(_INCIDENT), _INCIDENT),
            _stored(client, "incident", list(_INCIDENT), _INCIDENT),
        )
    return found


def _stored(client: Client, name: str, columns: list[str], key: tuple[str, ...] = ()) -> dict[str, Any]:
    table = TABLES[STORED[name]]
    final = "" if table.frames else " FINAL"
    return _columns(
        client.query_arrow(f"SELECT {', '.join(columns)} FROM {DATABASE}.{table.name}{final}"),
        columns,
        key or derived.DERIVED[name].key,
    )


def _columns(table: pa.Table, columns: list[str], key: tuple[str, ...]) -> dict[str, Any]:
    """numpy columns, sorted by key; NULL is NaN, time stamps are ms."""
    out: dict[str, Any] = {}
    for name in columns:
        column = table.column(name).combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ms")).cast(pa.int64())
        if pa.types.is_floating(column.type):
            column = column.fill_null(float("nan"))
        if pa.types.is_binary(column.type):
            column = column.cast(pa.string())
        out[name] = column.to_numpy(zero_copy_only=False)
    order = np.lexsort([out[name].astype(str) for name in reversed(key)])
    return {name: values[order] for name, values in out.items()}


def _compare(expected: dict[str, Any], stored: dict[str, Any]) -> Compared:
    rows, kept = (len(next(iter(side.values()))) for side in (expected, stored))
    if rows != kept:
        return {"rows": rows, "stored": kept, "wrong": max(abs(rows - kept), 1), "columns": []}
    wrong, columns = np.zeros(rows, bool), []
    for name, values in expected.items():
        mine = stored[name]
        if values.dtype.kind == "f":
            differs = ~((values == mine.astype(values.dtype)) | (np.isnan(values) & np.isnan(mine)))
        else:
            differs = values.astype(str) != mine.astype(str)
        if differs.any():
            at = int(np.flatnonzero(differs)[0])
            columns.append(f"{name}: {int(differs.sum())}, such as {mine[at]} for {values[at]}")
        wrong |= differs
    return {"rows": rows, "stored": kept, "wrong": int(wrong.sum()), "columns": columns}


def _last(table: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """Returns the last row of each key, as the store keeps it."""
    rows = {row: number for number, row in enumerate(zip(*(table.column(n).to_pylist() for n in key), strict=True))}
    return table.take(pa.array(sorted(rows.values())))
