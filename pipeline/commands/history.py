"""`gigawatch history`: one metric over time."""

from __future__ import annotations

import datetime as dt
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.commands import options
from pipeline.commands.output import STDOUT, OutputFile, written
from pipeline.commands.runtime import CommandError
from pipeline.store import history as store_history
from pipeline.store.access import opened
from pipeline.store.client import ClickHouseError, reason
from pipeline.store.history import BY, HistoryQuery
from pipeline.terminal.escape import plain
from pipeline.terminal.tables import show

_MOMENTS = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])


@click.command()
@click.argument("metric")
@click.argument("where", metavar="[PLACE]", required=False, default="")
@click.option(
    "--place",
    default="",
    help="The same as PLACE: a site, rack, node, device, board (GPU UUID) or what another system calls one; `R0001*` "
    "for all that begin so. Default: everything.",
)
@click.option("--job", default="", help="Only what this job held, while it held it.")
@click.option(
    "--last",
    "last_span",
    help="How far back from the newest sample, or from --to: 90s, 15m, 6h, 2d. Default: 15m, with --job all its time.",
)
@click.option(
    "--from",
    "first",
    type=_MOMENTS,
    metavar="TIME",
    help="Begin, UTC, such as 2026-01-31 or 2026-01-31T18:30, in place of --last.",
)
@click.option("--to", "until", type=_MOMENTS, metavar="TIME", help="End, UTC; that moment itself is not in the range.")
@click.option("--every", help="Width of a row: 1s, 10s, 1m. Default: what suits the range.")
@click.option("--by", type=click.Choice(BY), default="rack", show_default=True, help="One line per what.")
@click.option(
    "--csv", "csv_file", metavar="FILE.csv", type=OutputFile(stdout=True), help="Write CSV here; - is standard output."
)
@click.option("--parquet", metavar="FILE.parquet", type=OutputFile(), help="Write Parquet here.")
@click.option(
    "--plot",
    metavar="FILE.png",
    type=OutputFile(".png", ".svg", ".pdf"),
    help="Draw a PNG, SVG or PDF here (needs matplotlib).",
)
@options.clickhouse
@options.data_dir
def history(
    metric: str,
    where: str,
    place: str,
    job: str,
    last_span: str | None,
    first: dt.datetime | None,
    until: dt.datetime | None,
    every: str | None,
    by: str,
    csv_file: Path | None,
    parquet: Path | None,
    plot: Path | None,
    clickhouse: str | None,
    data_dir: Path,
) -> None:
    """Shows METRIC of a PLACE over time, such as `temp_c`, `gpu.power_w` or `cooling.heat_w`: a table, CSV, Parquet or
    a plot.

    Rows have the mean and the maximum; of a counter, such as `gpu.energy_j`, the increase. By device each board that a
    place held is a line of its own; a board is followed from place to place.

    \b
    gigawatch history temp_c R0001 --by device --last 5m
    gigawatch history util_pct --job 4711 --by board
    gigawatch history cooling.heat_w --plot heat.png
    """
    if plot and importlib.util.find_spec("matplotlib") is None:
        raise CommandError("--plot needs matplotlib: pip install 'gigawatch[plot]'")
    if where and place and where != place:
        raise CommandError(f"two places, {where!r} and {place!r}: name one")
    place = place or where
    try:
        every_s = store_history.span_s(every) if every else 0.0
        span_s = store_history.span_s(last_span) if last_span else 0.0
        ask = HistoryQuery(metric, place, first, until, every_s, by, span_s, job=job)
        with opened(clickhouse, data_dir) as client:
            found = store_history.history(client, ask)
    except ClickHouseError as err:
        raise CommandError(reason(err)) from err
    if not found.num_rows:
        raise CommandError(
            f"nothing stored of {metric}"
            + (f" at {place!r}" if place else "")
            + (f" under job {job!r}" if job else "")
            + " in that time range; `gigawatch query stored` shows what there is"
            + (", and a job is asked for with --job" if place and not job else "")
        )
    if csv_file == STDOUT:
        pa_csv.write_csv(_harmless(found), sys.stdout.buffer)
        return
    for path, write in ((csv_file, _write_csv), (parquet, pq.write_table), (plot, _plotter(metric, by))):
        if path:
            with written(path):
                write(found, path)
            click.echo(f"{found.num_rows} rows -> {path}")
    if not (csv_file or parquet or plot):
        rows = [[_text(cell) for cell in row.values()] for row in found.to_pylist()]
        show(found.column_names, rows)


def _write_csv(found: pa.Table, path: Path) -> None:
    pa_csv.write_csv(_harmless(found), path)


def _harmless(found: pa.Table) -> pa.Table:
    """A name that a spreadsheet would run as a formula gets an apostrophe before it."""
    columns = {
        name: pc.if_else(
            pc.match_substring_regex(column, r"^[=+\-@\t\r]"), pc.binary_join_element_wise("'", column, ""), column
        )
        if pa.types.is_string(column.type)
        else column
        for name, column in zip(found.column_names, found.columns, strict=True)
    }
    return pa.table(columns)


def _text(cell: object) -> object:
    return cell.strftime("%Y-%m-%d %H:%M:%S") if isinstance(cell, dt.datetime) else cell


def _plotter(metric: str, by: str) -> Callable[[pa.Table, Path], None]:
    return lambda found, path: _draw(found, metric, by, path)


def _draw(found: pa.Table, metric: str, by: str, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    _, found_metric = store_history.find_metric(metric)
    value = "increase" if "increase" in found.column_names else "mean"
    figure, axes = plt.subplots(figsize=(11, 5), layout="constrained")
    series: dict[str, tuple[list[dt.datetime], list[float]]] = {}
    rows = found.to_pylist()
    lines = {(row["device"], row["board"]) for row in rows} if by == "device" else set()
    several = {device for device, _ in lines if sum(device == other for other, _ in lines) > 1}
    for row in rows:
        board = row.get("board") if by == "device" else ""
        name = f"{row[by]}  {board}" if board and row[by] in several else row[by] or f"(no {by})"
        times, values = series.setdefault(name, ([], []))
        times.append(row["bucket"])
        values.append(float("nan") if row[value] is None else row[value])
    for name, (times, values) in sorted(series.items()):
        axes.plot(
            times,  # type: ignore[arg-type]
            values,
            label=plain(name).replace("$", r"\$"),
            linewidth=1.4 if len(series) <= 12 else 0.8,
        )
    if len(series) <= 12:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    axes.set_title(f"{metric} by {by}: {found_metric.help}", fontsize=10, loc="left")
    axes.set_ylabel(found_metric.unit)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
