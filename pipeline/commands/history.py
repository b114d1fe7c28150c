"""`gigawatch history`: one metric over time."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.commands import options
from pipeline.commands.runtime import CommandError
from pipeline.store import history as store_history
from pipeline.store.access import opened
from pipeline.store.client import StoreError
from pipeline.store.history import AskError, HistoryQuery
from pipeline.terminal.escape import plain
from pipeline.terminal.tables import show


@click.command()
@click.argument("metric")
@click.option(
    "--place",
    default="",
    help="A site, rack, node, device or job; `R0001*` for all that begin so. Default: everything.",
)
@click.option(
    "--last",
    "last_span",
    default="15m",
    show_default=True,
    help="How far back from the newest sample: 90s, 15m, 6h, 2d.",
)
@click.option(
    "--from",
    "first",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]),
    help="Begin, UTC, instead of --last.",
)
@click.option(
    "--to", "until", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]), help="End, UTC."
)
@click.option("--every", help="Width of a row: 1s, 10s, 1m. Default: what suits the range.")
@click.option(
    "--by",
    type=click.Choice(["device", "rack", "job", "site"]),
    default="rack",
    show_default=True,
    help="A row per what.",
)
@click.option("--csv", "csv_file", type=click.Path(path_type=Path, dir_okay=False), help="Write CSV here.")
@click.option("--parquet", type=click.Path(path_type=Path, dir_okay=False), help="Write Parquet here.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw a PNG or SVG here (needs matplotlib)."
)
@options.clickhouse
@options.data_dir
def history(
    metric: str,
    place: str,
    last_span: str,
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
    """METRIC over time, such as `temp_c`, `gpu.power_w` or `cooling.heat_w`: a table, CSV, Parquet or a plot.

    \b
    gigawatch history temp_c --place R0001 --by device --last 5m
    gigawatch history cooling.heat_w --plot heat.png
    """
    try:
        with opened(clickhouse, data_dir) as client:
            begin = first
            if begin is None:
                kind, _ = store_history.find_metric(metric)
                newest = until or client.query(f"SELECT max(ts) FROM gigawatch.{kind}").result_rows[0][0]
                begin = newest - dt.timedelta(seconds=store_history.span_s(last_span)) if newest else None
            found = store_history.history(
                client, HistoryQuery(metric, place, begin, until, store_history.span_s(every) if every else 0.0, by)
            )
    except (StoreError, AskError) as err:
        raise CommandError(str(err)) from err
    except ClickHouseError as err:
        raise CommandError(str(err).split("\n")[0]) from err
    if not found.num_rows:
        raise CommandError(
            f"nothing stored of {metric}"
            + (f" at {place!r}" if place else "")
            + " in that time range; `gigawatch query stored` shows what there is"
        )
    if csv_file:
        pa_csv.write_csv(_harmless(found), csv_file)
    if parquet:
        pq.write_table(found, parquet)
    if plot:
        _draw(found, metric, by, plot)
    for path in (csv_file, parquet, plot):
        if path:
            click.echo(f"{found.num_rows} rows -> {path}")
    if not (csv_file or parquet or plot):
        rows = [[_text(cell) for cell in row.values()] for row in found.to_pylist()]
        show(found.column_names, rows)


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


def _draw(found: pa.Table, metric: str, by: str, path: Path) -> None:
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as err:
        raise CommandError("--plot needs matplotlib: pip install 'gigawatch[plot]'") from err
    _, found_metric = store_history.find_metric(metric)
    value = "increase" if "increase" in found.column_names else "mean"
    figure, axes = plt.subplots(figsize=(11, 5), layout="constrained")
    series: dict[str, tuple[list[dt.datetime], list[float]]] = {}
    for row in found.to_pylist():
        times, values = series.setdefault(row[by] or f"(no {by})", ([], []))
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
