"""The offsets that are stored already, read from ClickHouse when a partition is assigned, so that a replay stores no
row twice.
"""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.client import Client

from pipeline.store.table import Table
from schemas.tables import DATABASE

#: (offset, Kafka time stamp in ms) -> the days whose rows of that message are stored.
StoredOffsets = dict[tuple[int, int], set[dt.date]]


def stored_offsets(client: Client, table: Table, log_id: str, partition: int, first: int, end: int) -> StoredOffsets:
    """The messages of one partition from `first` up to `end` (not included) that are in the table.

    The message's time stamp is compared too, so that a topic that was deleted and created again is not taken for the
    old one.
    """
    rows = client.query(
        f"SELECT kafka_offset, toUnixTimestamp64Milli(kafka_ts), {table.day} FROM {DATABASE}.{table.stored_as} "
        "WHERE kafka_log = {log:String} AND kafka_partition = {partition:UInt16} AND kafka_offset >= {first:UInt64} "
        "AND kafka_offset < {end:UInt64} GROUP BY 1, 2, 3",
        parameters={"log": log_id, "partition": partition, "first": first, "end": end},
    ).result_rows
    found: StoredOffsets = {}
    for offset, stamp, day in rows:
        found.setdefault((int(offset), int(stamp)), set()).add(day)
    return found


def remaining(batch: pa.RecordBatch, dated: str, days: set[dt.date]) -> pa.RecordBatch:
    """The rows of a message whose day is not stored yet."""
    if not days:
        return batch
    of_row = pc.cast(batch.column(batch.schema.get_field_index(dated)), pa.date32())
    return batch.filter(pc.invert(pc.is_in(of_row, pa.array(sorted(days), pa.date32()))))


def by_day(batch: pa.RecordBatch, dated: str) -> list[tuple[str, pa.RecordBatch]]:
    """The rows split by day, since ClickHouse stores each day's rows of an insert apart."""
    column = batch.column(batch.schema.get_field_index(dated))
    first, last = pc.min(column).as_py().date(), pc.max(column).as_py().date()
    if first == last:
        return [(first.isoformat(), batch)]
    days = pc.cast(column, pa.date32())
    return [
        (day.isoformat(), batch.filter(pc.equal(days, pa.scalar(day, pa.date32()))))
        for day in sorted(set(days.to_pylist()))
    ]
