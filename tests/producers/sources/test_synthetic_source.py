"""The plant as a source: its ticks, its device lists, faults that are injected."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from producers.emission import SiteTick
from producers.sources.synthetic import faults
from producers.sources.synthetic.faults import Fault
from producers.sources.synthetic.source import Synthetic
from tests.producers.sources.test_synthetic import START, frames, loops, run


def test_a_fault_injected_now_begins_now() -> None:
    plant = Synthetic(1, "H100")
    run(plant, 5)
    plant.inject(Fault("leak", "R0001", 0.0, 10.0), START + 5000)
    later = [list(plant.frames(START + 1000 * k)) for k in range(5, 20)]
    assert [loops(t, "leak")[0] for t in later] == [1.0] * 10 + [0.0] * 5


async def test_a_line_in_the_control_file_swaps_a_board_of_the_running_plant(tmp_path: Path) -> None:
    control = tmp_path / "inject"
    plant, boards = Synthetic(1, "H100", ticks=6, speed=0, start_ms=START, control=control), list[str]()
    async for emission in plant.emissions():
        if isinstance(emission, SiteTick) and emission.devices.kind == "gpu":
            boards.append(emission.devices.identity["board"][5].as_py())
            if len(boards) == 3:
                control.write_text("gpu-swap@R0001-N01-GPU5\n")
    assert boards == [boards[0]] * 3 + [boards[3]] * 3
    assert len(set(boards)) == 2


async def test_a_source_keeps_its_ticks() -> None:
    stamps = {
        e.ts_ms
        async for e in Synthetic(1, "H100", ticks=4, speed=0, start_ms=START).emissions()
        if isinstance(e, SiteTick)
    }
    assert stamps == {START + 1000 * k for k in range(4)}


def test_device_lists_stay_the_same_until_a_gpu_is_gone() -> None:
    """The publisher keeps what it encoded for as long as a list is the same object."""
    plant = Synthetic(3, "GB200", faults=[faults.parse("gpu-dead@R0002-N01-GPU0:3+6")])
    ticks = [[e for e in plant.tick(START + 1000 * k) if isinstance(e, SiteTick)] for k in range(12)]
    gpus = [next(e.devices for e in tick if e.devices.kind == "gpu") for tick in ticks]
    assert len({id(devices) for devices in gpus}) == 2
    assert gpus[0] is gpus[11]
    assert [len(tick) for tick in ticks] == [7] * 12
    assert min(np.diff(devices.cuts).min() for devices in gpus) == 71
    assert len({id(e.devices) for tick in ticks for e in tick}) == 8


def test_a_rack_without_any_gpu_left_sends_no_gpu_message() -> None:
    all_dead = [faults.parse(f"gpu-dead@R0001-N01-GPU{slot}:1+60") for slot in range(8)]
    plant = Synthetic(2, "H100", faults=all_dead[: int(Synthetic(2, "H100").topology.design["gpus_per_node"])])
    nodes = int(plant.topology.design["nodes"])
    for node in range(2, nodes + 1):
        for slot in range(int(plant.topology.design["gpus_per_node"])):
            plant.inject(faults.parse(f"gpu-dead@R0001-N{node:02d}-GPU{slot}:1+60"))
    later = run(plant, 20)[-1]
    assert {f.identity("rack")[0] for f in frames(later, "gpu")} == {"R0002"}
