"""`gigawatch catalogue`: the metric and hardware catalogues as tables."""

from __future__ import annotations

from collections import defaultdict

import click

from pipeline.commands.runtime import CommandError


@click.command()
@click.argument(
    "which", type=click.Choice(["metrics", "gpu", "node", "power", "cooling", "hardware"]), default="metrics"
)
@click.option("--markdown", is_flag=True, help="The page docs/catalogue.md.")
def catalogue(which: str, markdown: bool) -> None:
    """Prints the metric catalogue (or that of one kind), or the hardware catalogue with grades and sources."""
    from schemas import catalogue as metrics
    from schemas import hardware

    if markdown:
        click.echo(metrics.markdown(other_names()), nl=False)
        return
    from pipeline.terminal.tables import show

    if which == "hardware":
        try:
            show(hardware.HEADERS, hardware.rows(hardware.load()))
        except hardware.HardwareError as err:
            raise CommandError(str(err)) from err
    else:
        show(metrics.HEADERS, metrics.rows(None if which == "metrics" else which, other_names()))


def other_names() -> dict[tuple[str, str], list[str]]:
    """Returns what other systems call each metric, by (kind, metric)."""
    from producers.sources import points

    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    for point in points.every():
        names[point.kind, point.metric].append(str(point))
    return names
