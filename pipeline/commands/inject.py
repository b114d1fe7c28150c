"""`gigawatch inject`: a labelled fault into the running synthetic plant."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands import options
from pipeline.commands.runtime import CommandError


@click.command()
@click.argument("fault", metavar="NAME[@PLACE][+LASTS][*SEVERITY]")
@options.data_dir
def inject(fault: str, data_dir: Path) -> None:
    """Injects a labelled FAULT now into the synthetic plant of the factory on --data-dir.

    Names: gpu-thermal, gpu-throttle, gpu-straggler, gpu-dead, gpu-frozen (place: a GPU such as R0001-N01-GPU0);
    coolant-flow, leak, lying-sensor, psu-loss (a rack such as R0001); cdu-pump (a CDU such as CDU-001).
    """
    from pipeline.instance import run_dir
    from producers.sources.source import SourceError
    from producers.sources.synthetic import faults

    options.need_factory(data_dir, "its --data-dir")
    try:
        faults.parse(fault)
    except SourceError as err:
        raise CommandError(str(err)) from err
    with (run_dir(data_dir) / "inject").open("a") as file:
        file.write(fault + "\n")
    click.echo(f"injected {fault}; see `gigawatch top`")
