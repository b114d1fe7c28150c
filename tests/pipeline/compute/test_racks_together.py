"""Rows of a rack leave the engine together."""

from __future__ import annotations

import numpy as np

from pipeline.compute.devices import Devices
from schemas.frame import build


def test_the_engine_gives_racks_together_in_whichever_order_they_were_met() -> None:
    def met(order: list[str]) -> list[str]:
        registry = Devices()
        for name in order:
            registry.rows_of(build("gpu", 0, {"rack": [name.split("-")[0]], "device": [name]}, {}))
        return [
            registry.columns["device"][row]
            for row in np.arange(len(registry))[registry.present_rows(np.ones(len(registry), bool))]
        ]

    assert met(["R1-a", "R1-b", "R2-a"]) == ["R1-a", "R1-b", "R2-a"]
    assert [name.split("-")[0] for name in met(["R2-a", "R1-b", "R2-b", "R1-a"])] == ["R1", "R1", "R2", "R2"]
