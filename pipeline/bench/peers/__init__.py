"""Other tools for the same work, in the same run on the same data: ratios, not absolute times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.bench import markdown_table
from pipeline.bench.peers import stores, streams
from pipeline.bench.stages import Bench, BenchResult

HEADERS = ("what", "Gigawatch", "peer", "peer's figure", "Gigawatch / peer")


async def run(bench: Bench) -> BenchResult:
    """Returns {"streams": ..., "stores": ..., "absent": peers that are not installed here, "wrong": wrong answers}."""
    streaming, storing = await streams.run(bench), await stores.run(bench)
    return {
        "streams": streaming,
        "stores": storing,
        "absent": streaming["absent"] + storing["absent"],
        "wrong": streaming["wrong"] + storing["wrong"],
    }


def rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """Rows of HEADERS; a ratio above 1 is in favour of Gigawatch whatever the unit."""
    for part in (result["streams"], result["stores"]):
        for row in part["rows"]:
            ours, theirs = row["ours"], row["theirs"]
            ratio = ours / theirs if row["more_is_better"] else theirs / ours
            verdict = f"{ratio:,.3g} x" if ratio >= 1 else f"{ratio:.3g} x: the peer wins"
            yield row["what"], _figure(ours, row["unit"]), row["peer"], _figure(theirs, row["unit"]), verdict


def page(result: Mapping[str, Any]) -> list[str]:
    """Returns the README's table: what, peer and ratio."""
    lines = markdown_table.table(
        (HEADERS[0], HEADERS[2], HEADERS[4]), [(what, peer, ratio) for what, _, peer, _, ratio in rows(result)]
    )
    return [*lines, *(f"| not measured here | {name} | |" for name in result["absent"])]


def _figure(value: float, unit: str) -> str:
    return (f"{value:,.0f}" if value >= 1000 else f"{value:,.3g}") + f" {unit}"
