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

#: (offset, Kafka time stamp in ms) -> the periods (their first days) whose rows of that message are stored.
StoredOffsets = dict[tuple[int, int], set[dt.date]]


def stored_offsets(client: Client, table: Table, log_id: str, partition: int, first: int, end: int) -> StoredOffsets:
    """The messages of one partition from `first` up to `end` (not included) that are in the table.

    The message's time stamp is compared too, so that a topic that was deleted and created again is not taken for the
    old one.
    """
    rows = client.query(
        f"SELECT kafka_offset, toUnixTimestamp64Milli(kafka_ts), {table.period} FROM {DATABASE}.{table.stored_as} "
        "WHERE kafka_log = {log:String} AND kafka_partition = {partition:UInt16} AND kafka_offset >= {first:UInt64} "
        "AND kafka_offset < {end:UInt64} GROUP BY 1, 2, 3",
        parameters={"log": log_id, "partition": partition, "first": first, "end": end},
    ).result_rows
    found: StoredOffsets = {}
    for offset, stamp, first_day in rows:
        found.setdefault((int(offset), int(stamp)), set()).add(first_day)
    return found


def remaining(batch: pa.RecordBatch, table: Table, stored: set[dt.date]) -> pa.RecordBatch:
    """The rows of a message whose period is not stored yet."""
    if not stored:
        return batch
    return batch.filter(pc.invert(pc.is_in(_periods(batch, table), pa.array(sorted(stored), pa.date32()))))


def by_period(batch: pa.RecordBatch, table: Table) -> list[tuple[str, pa.RecordBatch]]:
    """The rows split by period, since ClickHouse stores each partition's rows of an insert apart."""
    of_row = _periods(batch, table)
    first, last = pc.min(of_row).as_py(), pc.max(of_row).as_py()
    if first == last:
        return [(first.isoformat(), batch)]
    return [
        (day.isoformat(), batch.filter(pc.equal(of_row, pa.scalar(day, pa.date32()))))
        for day in sorted(set(of_row.to_pylist()))
    ]


def _periods(batch: pa.RecordBatch, table: Table) -> pa.Array:
    """Of each row the first day of its period, as `Table.period` has it."""
    if not table.split:
        return pa.array([dt.date(1970, 1, 1)] * batch.num_rows, pa.date32())
    days = pc.cast(batch.column(batch.schema.get_field_index(table.dated)), pa.date32())
    return days if table.split == "day" else pc.floor_temporal(days, unit="month")
