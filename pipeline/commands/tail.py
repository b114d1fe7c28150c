"""`gigawatch tail`: live frames as they come."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from pathlib import Path

import click

from pipeline import api
from pipeline.commands import options, runtime
from pipeline.terminal.escape import plain
from schemas.catalogue import KINDS
from schemas.frame import Frame
from schemas.identity import IDENTITY


@click.command()
@click.argument("kind", required=False, type=click.Choice(list(KINDS)))
@click.option("--place", default="", help="Only places whose site/rack contains this.")
@click.option("--job", default="", help="Only what this job holds.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many frames.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per row, with all metrics.")
@options.broker
@options.data_dir
def tail(
    kind: str | None, place: str, job: str, count: int | None, as_json: bool, broker: str | None, data_dir: Path
) -> None:
    """Shows live frames of KIND (default: all): one line a frame, with the means of its leading metrics."""

    async def work(stop: asyncio.Event, abort: asyncio.Event) -> int:
        async def follow() -> None:
            seen = 0
            async for frame in api.live(kind, place, job=job, broker=broker, data_dir=data_dir):
                (_rows if as_json else _line)(frame)
                seen += 1
                if count and seen >= count:
                    return

        following, stopping = asyncio.create_task(follow()), asyncio.create_task(stop.wait())
        await asyncio.wait([following, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if following.done():
            following.result()
        else:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        return 0

    try:
        code = runtime.until_signal(work)
    except BrokenPipeError:
        code = 0
    sys.exit(code)


def _line(frame: Frame) -> None:
    shown: list[str] = []
    for metric in frame.catalogue.stored:
        values = frame.values(metric.name)
        there = values[values == values]
        if len(there) and len(shown) < 6 and (metric.windowed or metric.score):
            shown.append(f"{metric.name} {float(there.mean()):.6g}")
    stamp = frame.batch.column("ts")[0].as_py()
    click.echo(
        f"{stamp:%H:%M:%S} {frame.kind:8s}{plain(frame.key().decode()):24s}{frame.rows:4d} rows  {'  '.join(shown)}"
    )


def _rows(frame: Frame) -> None:
    names = [m.name for m in frame.catalogue.stored if m.name in frame.batch.schema.names]
    for row in frame.batch.to_pylist():
        body = {"ts": row["ts"].isoformat(timespec="milliseconds"), "kind": frame.kind, **{n: row[n] for n in IDENTITY}}
        click.echo(json.dumps(body | {n: None if math.isnan(row[n]) else row[n] for n in names}))
