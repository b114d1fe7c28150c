"""`gigawatch record`: telemetry into Parquet, for replay."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import api
from pipeline.commands import options, runtime
from pipeline.commands.output import OutputFolder, written
from pipeline.commands.runtime import CommandError
from pipeline.store.access import opened
from pipeline.store.client import ClickHouseError, reason
from pipeline.store.history import span_s
from schemas.catalogue import KINDS
from schemas.frame import Frame, concat, schema
from schemas.identity import IDENTITY
from schemas.tables import DATABASE


@click.command()
@click.argument("folder", type=OutputFolder())
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    help="How long to record live telemetry.",
)
@click.option("--last", "last_span", help="In place of live telemetry: what is stored of the last 90s, 15m, 6h.")
@click.option("--place", default="", help="Only racks or devices whose name contains this.")
@options.broker
@options.clickhouse
@options.data_dir
def record(
    folder: Path,
    seconds: float,
    last_span: str | None,
    place: str,
    broker: str | None,
    clickhouse: str | None,
    data_dir: Path,
) -> None:
    """Writes FOLDER/KIND.parquet, live from Kafka or (--last) from ClickHouse.

    Play it with `gigawatch up --source replay:FOLDER`.
    """
    try:
        tables = (
            _stored(last_span, place, clickhouse, data_dir) if last_span else _live(seconds, place, broker, data_dir)
        )
    except ClickHouseError as err:
        raise CommandError(reason(err)) from err
    if not tables:
        raise CommandError(
            "no telemetry arrived: is a producer running?" if not last_span else "nothing is stored in that time range"
        )
    for kind, table in tables.items():
        with written(folder / f"{kind}.parquet"):
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, folder / f"{kind}.parquet", compression="zstd", use_dictionary=True)
        click.echo(f"{table.num_rows} rows -> {folder / f'{kind}.parquet'}")


def _live(seconds: float, place: str, broker: str | None, data_dir: Path) -> dict[str, pa.Table]:
    frames: dict[str, list[Frame]] = {}

    async def work(stop: asyncio.Event, abort: asyncio.Event) -> int:
        async def follow() -> None:
            async for frame in api.live(None, place, broker=broker, data_dir=data_dir):
                frames.setdefault(frame.kind, []).append(frame)

        following, stopping = asyncio.create_task(follow()), asyncio.create_task(stop.wait())
        began = time.monotonic()
        while not stopping.done() and not following.done() and time.monotonic() - began < seconds:
            await asyncio.wait(
                [following, stopping],
                timeout=min(5.0, seconds - (time.monotonic() - began)),
                return_when=asyncio.FIRST_COMPLETED,
            )
            click.echo(
                f"{time.monotonic() - began:.0f} s: {sum(f.rows for fs in frames.values() for f in fs)} rows", err=True
            )
        if following.done():
            following.result()
        for task in (following, stopping):
            task.cancel()
        await asyncio.gather(following, stopping, return_exceptions=True)
        return 0

    runtime.until_signal(work)
    return {kind: pa.table(concat(got).batch) for kind, got in frames.items()}


def _stored(last_span: str, place: str, clickhouse: str | None, data_dir: Path) -> dict[str, pa.Table]:
    found, span = {}, dt.timedelta(seconds=span_s(last_span))
    with opened(clickhouse, data_dir) as client:
        for kind in KINDS:
            columns = ", ".join(["ts", *IDENTITY, *(m.name for m in KINDS[kind].stored)])
            newest = client.query(f"SELECT max(ts) FROM {DATABASE}.{kind}").result_rows[0][0]
            if newest is None:
                continue
            table = client.query_arrow(
                f"SELECT {columns} FROM {DATABASE}.{kind} WHERE ts > {{first:DateTime64(3)}} AND "
                f"(position(rack, {{place:String}}) > 0 OR "
                "position(device, {place:String}) > 0) ORDER BY ts, rack, device LIMIT 1 BY ts, site, rack, device",
                parameters={"first": newest - span, "place": place},
                use_strings=True,
            )
            if table.num_rows:
                found[kind] = table.replace_schema_metadata(schema(kind).metadata)
    return found
