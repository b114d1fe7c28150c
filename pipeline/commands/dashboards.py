"""`gigawatch dashboards`: Grafana's boards as code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pipeline import settings
from pipeline.commands import options
from pipeline.commands.runtime import CommandError


@click.group()
def dashboards() -> None:
    """Grafana dashboards as code."""


@dashboards.command()
@click.option(
    "--check", is_flag=True, help="Only check whether JSON, alert rules and docs tables in the tree are up to date."
)
def build(check: bool) -> None:
    """Writes the dashboards' JSON, Grafana's alert rules, and the tables of boards and alerts in the docs."""
    from dashboards import build as builder

    stale = builder.write(check=check)
    if check and stale:
        raise CommandError(f"not up to date: {', '.join(stale)}; run `gigawatch dashboards build`")
    click.echo("up to date" if not stale else "wrote " + ", ".join(stale))


@dashboards.command(name="check")
@options.clickhouse
@options.data_dir
@click.option(
    "--minutes",
    type=float,
    multiple=True,
    help="Time range, back from the newest sample; may be repeated. Default: 5, 360 and 10080 with --fill, else 15.",
)
@click.option(
    "--fill",
    type=click.IntRange(min=72),
    metavar="GPUS",
    help="Fill a store of its own with so many GPUs' week first, and check there.",
)
@click.option(
    "--budget",
    "budget_ms",
    type=click.FloatRange(min=1),
    help="Fail when the 95th percentile of all panels takes more ms. Default: 200 with --fill.",
)
def check_panels(
    clickhouse: str | None, data_dir: Path, minutes: tuple[float, ...], fill: int | None, budget_ms: float | None
) -> None:
    """Runs every panel's query, macros expanded as the plugin does; fails on an error, an empty panel, or over the
    budget.
    """
    from contextlib import ExitStack

    from dashboards.check import RANGES, check, p95, timed
    from pipeline.bench.week import filled
    from pipeline.store.access import opened
    from pipeline.terminal.tables import show

    with ExitStack() as stack:
        if fill:
            clickhouse = stack.enter_context(filled(fill, lambda text: click.echo(text, err=True)))
        client = stack.enter_context(opened(clickhouse, data_dir))

        def run(sql: str) -> tuple[Sequence[Sequence[Any]], int]:
            found = client.query(sql)
            return found.result_rows, int(found.summary.get("read_rows", 0))

        ranges = minutes or (tuple(RANGES.values()) if fill else (15.0,))
        results = check(timed(run), ranges, times=3 if fill else 1)
    show(
        ("dashboard", "panel", "range", "rows", "read", "ms", "error"),
        [
            (
                r.dashboard.removeprefix("Gigawatch: "),
                r.panel,
                r.over,
                str(r.rows),
                f"{r.read:,}",
                f"{r.ms:.0f}",
                r.error,
            )
            for r in results
        ],
    )
    bad, found = [r for r in results if r.error], p95(results)
    click.echo(
        f"{len(results)} panel queries: p50 {sorted(r.ms for r in results)[len(results) // 2]:.0f} ms, p95 "
        f"{found:.0f} ms, slowest "
        f"{max(r.ms for r in results):.0f} ms"
    )
    budget = budget_ms or (200.0 if fill else None)
    if bad:
        raise CommandError(f"{len(bad)} of {len(results)} panels fail")
    if budget is not None and found > budget:
        raise CommandError(f"the 95th percentile is over the budget of {budget:g} ms")


@dashboards.command()
@click.option("--url", required=True, envvar="GRAFANA_URL", help="Grafana, http://HOST:3000.")
@click.option(
    "--clickhouse",
    envvar="GIGAWATCH_CLICKHOUSE",
    callback=options.no_secret,
    help="Also create the datasource for this ClickHouse, as Grafana reaches it.",
)
def push(url: str, clickhouse: str | None) -> None:
    """Pushes the dashboards to a Grafana that already runs (through grafana-api).

    Credentials come from GIGAWATCH_GRAFANA_TOKEN, or GIGAWATCH_GRAFANA_USER and GIGAWATCH_GRAFANA_PASSWORD (each also
    with _FILE).
    """
    from dashboards.push import push as push_all

    token, user, password, ca = (settings.value("grafana", name) for name in ("token", "user", "password", "ca"))
    if not token and not (user and password):
        raise CommandError(
            "no credentials for Grafana: set GIGAWATCH_GRAFANA_TOKEN, or GIGAWATCH_GRAFANA_USER and "
            "GIGAWATCH_GRAFANA_PASSWORD (or the name of a file in ..._FILE)"
        )
    for line in push_all(url, token or (user, password), clickhouse, ca, _reader()):
        click.echo(line)


def _reader() -> tuple[str, str]:
    """Returns the user and password of Grafana's datasource: those that `migrate --users` made, else our own."""
    password = settings.value("users", "grafana_password")
    return (
        ("gigawatch_grafana", password)
        if password
        else (settings.value("clickhouse", "user"), settings.value("clickhouse", "password"))
    )
