"""`gigawatch bench`: the published figures, measured on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from pipeline.bench import fault_injection, faults, markdown_table, peers, scale, soak, stages, targets
from pipeline.bench.stages import Bench, BenchResult
from pipeline.commands import options
from pipeline.commands.runtime import CommandError
from pipeline.terminal.tables import show

GIGAWATT = 500_000
_SIZES = (1_000, 10_000, 100_000, 500_000)

PARTS = (
    "end-to-end",
    "nodes",
    "pods",
    "worker",
    "sink",
    "size",
    "flat",
    "two-workers",
    "jobs",
    "peers",
    "scale",
    "faults",
    "soak",
)
#: Only when asked for.
_ALONE = ("faults", "soak")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(PARTS), metavar="[PART]...")
@click.option(
    "--gpus",
    type=click.IntRange(min=8),
    default=GIGAWATT,
    show_default=True,
    help="GPUs of the plant, with their power and cooling.",
)
@click.option(
    "--seconds",
    type=click.IntRange(min=5),
    default=120,
    show_default=True,
    help="How long the end-to-end parts run under load.",
)
@click.option(
    "--ticks",
    type=click.IntRange(min=5),
    default=60,
    show_default=True,
    help="Ticks in the log that worker and sink read.",
)
@click.option(
    "--runs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs of each part; the median counts."
)
@click.option("--speed", type=click.FloatRange(min=0.1), help="End to end: times real time. Default: 1, pods 1.5.")
@click.option("--broker", type=click.Choice(["embedded", "apache"]), default="embedded", show_default=True)
@click.option("--quick", is_flag=True, help="Small and short: for CI. Only wrong results fail.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the results here.")
@click.option(
    "--compare",
    "older",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Show this run against an older one's --json.",
)
@click.option("--times", type=click.IntRange(min=1), default=1, show_default=True, help="Faults: runs of each.")
@click.option(
    "--away",
    "down_s",
    type=click.FloatRange(min=2),
    default=60.0,
    show_default=True,
    help="Faults: seconds for which a service stays down.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([f.name for f in fault_injection.FAULTS]),
    help="Faults: only this one. May be repeated.",
)
@click.option("--racks", type=click.IntRange(min=1), default=64, show_default=True, help="Soak: racks of the plant.")
@click.option(
    "--picture", type=click.Path(path_type=Path, dir_okay=False), help="Soak: draw memory and lag here (SVG or PNG)."
)
@click.option(
    "--page",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Faults: write the table into this page.",
)
@click.option(
    "--readme",
    "readme_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Write the peers' table into this page.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where data is kept during a run. Default: a temporary folder.",
)
def bench(
    names: tuple[str, ...],
    gpus: int,
    seconds: int,
    ticks: int,
    runs: int,
    speed: float | None,
    broker: str,
    quick: bool,
    times: int,
    down_s: float,
    only: tuple[str, ...],
    racks: int,
    picture: Path | None,
    page: Path | None,
    json_file: Path | None,
    older: Path | None,
    readme_file: Path | None,
    folder: Path | None,
) -> None:
    """Measures PARTs (default: all) on this machine, checks that the results are right, and prints them beside the
    targets.

    \b
    end-to-end    publisher to ClickHouse, a rack (72 GPUs) a message
    nodes         the same with 8 GPUs a message, merged by the publisher
    pods          the same with 16 racks a message
    worker        GPUs a second a worker core
    sink          rows a second a core, Kafka to durable
    size          bytes a value, the plant's own ticks, merged
    flat          cost a GPU from 1,000 to 500,000 GPUs
    two-workers   two faust workers against one
    jobs          what ten job changes a second cost the worker
    peers         other tools for the same work, on the same data
    scale         five gigawatts: skew and rebalance, simulated
    faults        injects every fault into a running factory on Apache Kafka,
                  then counts and recomputes everything (only when named)
    soak          --seconds of a steady plant: memory and lag must stay flat
                  (only when named)

    Load: pre-made plant ticks with new time stamps; everything from the publisher on is real and shares this machine's
    cores. A wrong result fails, a slow one does not. The config file's sections of other commands do not apply.
    """
    os.environ.pop(options.CONFIG, None)  # its processes are measured with their defaults
    then = targets.load(older) if older else {}
    for where in (readme_file, page):
        if where:
            markdown_table.check(where, "peers" if where is readme_file else "faults")
    if quick:
        gpus, seconds, ticks = min(gpus, 2_880), min(seconds, 22), min(ticks, 30)
    began = time.monotonic()

    def progress(text: str) -> None:
        click.echo(f"[{time.monotonic() - began:6.1f} s] {text}", err=True)

    made = Bench(broker, folder, progress)
    chosen = names or tuple(
        p for p in PARTS if p not in _ALONE and (not quick or p in ("end-to-end", "nodes", "worker", "sink"))
    )
    results: dict[str, BenchResult] = {}
    work = {
        **_work(made, gpus, seconds, ticks, speed, tuple(s for s in _SIZES if s <= gpus) or (gpus,)),
        "soak": lambda: soak.run(made, seconds, racks, picture),
        "faults": lambda: faults.run(
            Bench("apache", folder, progress), times, min(down_s, 4.0) if quick else down_s, names=only
        ),
    }
    for name in chosen:
        found: list[BenchResult] = []
        for run in range(runs if name not in ("flat", "jobs", "peers", "scale", "faults", "soak") else 1):
            progress(f"{name}" + (f", run {run + 1} of {runs}" if runs > 1 else ""))
            found.append(asyncio.run(work[name]()))
        results[name] = {"part": name, **targets.median(found)}
        _write(json_file, results)
    _print(results, then)
    if readme_file and "peers" in results:
        markdown_table.write(readme_file, "peers", peers.page(results["peers"]))
    if page and "faults" in results:
        markdown_table.write(page, "faults", faults.page(results["faults"]))
    wrong = {name: r["wrong"] for name, r in results.items() if r["wrong"]}
    if wrong:
        raise CommandError(f"wrong results: {', '.join(f'{n} ({count})' for n, count in wrong.items())}")
    sys.exit(0)


def _work(
    made: Bench, gpus: int, seconds: int, ticks: int, speed: float | None, sizes: tuple[int, ...]
) -> dict[str, Callable[[], Coroutine[Any, Any, BenchResult]]]:
    async def flat() -> BenchResult:
        cost = {}
        for size in sizes:
            found = await stages.worker(made, size, ticks if size >= 100_000 else 8 * ticks)
            cost[size] = 1e6 / found["gpus_per_core_s"]
            made.progress(f"{size:,} GPUs: {cost[size]:.2f} us of a worker core a GPU and tick")
        return {
            "us_per_gpu": {str(k): round(v, 3) for k, v in cost.items()},
            "worst_ratio": round(max(cost.values()) / cost[sizes[0]], 3),
            "wrong": 0,
        }

    async def two() -> BenchResult:
        # eight partitions either way, so that only the number of workers differs
        one, both = [await stages.worker(made, min(gpus, 100_000), ticks, workers=n, partitions=8) for n in (1, 2)]
        return {
            "one_wall_s": one["wall_s"],
            "two_wall_s": both["wall_s"],
            "speed_up": round(one["wall_s"] / both["wall_s"], 3),
            "cores": os.cpu_count(),
            "partitions_each": both["partitions_each"],
            "wrong": one["wrong"] + both["wrong"],
        }

    async def simulated() -> BenchResult:
        return {"tables": [list(t) for t in scale.tables()], "wrong": 0}

    return {
        "end-to-end": lambda: stages.end_to_end(made, gpus, seconds, "rack", speed or 1.0),
        "nodes": lambda: stages.end_to_end(made, gpus, seconds, "node", speed or 1.0),
        "pods": lambda: stages.end_to_end(made, gpus, seconds, "pod", speed or 1.5),
        "worker": lambda: stages.worker(made, gpus, ticks),
        "sink": lambda: stages.sink(made, gpus, ticks),
        "flat": flat,
        "two-workers": two,
        "jobs": lambda: stages.job_changes(made, min(gpus, 100_000), 2 * ticks),
        "size": lambda: stages.size(made, 4, 10 * ticks),
        "scale": simulated,
        "peers": lambda: peers.run(made),
    }


def _write(path: Path | None, results: dict[str, BenchResult]) -> None:
    """Writes one part alone flat, several under `parts`."""
    if path is None:
        return
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    body: dict[str, Any] = next(iter(results.values())) if len(results) == 1 else {"parts": results}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**body, "on": machine}, indent=2) + "\n")


def _print(results: dict[str, BenchResult], then: dict[str, dict[str, Any]]) -> None:
    rows = list(targets.table(results))
    if rows:
        show(targets.HEADERS, rows)
    if "flat" in results:
        show(("GPUs", "us of a worker core a GPU and tick"), list(results["flat"]["us_per_gpu"].items()))
    if "peers" in results:
        show(peers.HEADERS, peers.rows(results["peers"]))
    if "faults" in results:
        show(faults.HEADERS, faults.rows(results["faults"]))
        click.echo(faults.verdict(results["faults"]))
    if "soak" in results:
        found = results["soak"]
        show(
            ("process", "growth in the second half, MB an hour"),
            [(n.removesuffix("_mb"), f"{v:g}") for n, v in found["growth_mb_h"].items()],
        )
        click.echo(
            f"{'flat' if found['flat'] else 'NOT flat'}; the newest stored sample was at most "
            f"{found['lag_p99_s']:g} s old (p99)"
        )
    if "scale" in results:
        for title, headers, body in scale.tables():
            click.echo(title)
            show(headers, body)
    if then:
        show(("part", "figure", "then", "now", "change"), list(targets.compare(results, then)))
