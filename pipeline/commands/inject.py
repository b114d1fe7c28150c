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

    Names: gpu-thermal, gpu-throttle, gpu-straggler, gpu-dead, gpu-frozen, gpu-swap (place: a GPU such as
    R0001-N01-GPU0); job-idle (a node such as R0001-N01: its job holds it and does nothing); coolant-flow, leak,
    lying-sensor, psu-loss, rack-dark (a rack such as R0001); cdu-pump (a CDU such as CDU-001).

    gpu-swap@GPU puts a spare board there; with gpu-swap@GPU~GPU two boards change places.
    """
    from pipeline.instance import run_dir
    from pipeline.monitoring import status
    from producers.sources.synthetic import faults
    from producers.sources.synthetic.places import Places

    options.need_factory(data_dir, "its --data-dir")
    folder = run_dir(data_dir)
    parsed = faults.parse(fault)
    places = Places.load(folder)
    if places is None:
        source = status.read(folder / "producer.json").get("source")
        raise CommandError(
            f"the factory on {data_dir} runs {f'the source {source!r}' if source else 'no source'}: faults go into the "
            "synthetic plant, `gigawatch up --source synthetic`"
        )
    places.index(parsed)
    with (folder / "inject").open("a") as file:
        file.write(fault + "\n")
    click.echo(f"injected {parsed.name} at {parsed.place}; see `gigawatch top`")
