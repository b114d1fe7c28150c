"""`gigawatch catalogue`: the metric and hardware catalogues as tables."""

from __future__ import annotations

import click


@click.command()
@click.argument(
    "which", type=click.Choice(["metrics", "gpu", "node", "power", "cooling", "hardware"]), default="metrics"
)
@click.option("--markdown", is_flag=True, help="The page docs/catalogue.md.")
def catalogue(which: str, markdown: bool) -> None:
    """Prints the metric catalogue, or that of one kind, or the hardware catalogue with grades and sources."""
    from schemas import catalogue as metrics
    from schemas import hardware

    if markdown:
        click.echo(metrics.markdown(), nl=False)
        return
    from pipeline.terminal.tables import show

    if which == "hardware":
        show(hardware.HEADERS, hardware.rows(hardware.load()))
    else:
        show(metrics.HEADERS, metrics.rows(None if which == "metrics" else which))
