"""The inventory source: what it emits at the start, when a file changes, and while a file is broken."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from producers.emission import Emission, Event, SourceFailure
from producers.sources import registry
from producers.sources.declared import AssetRow, DeclaredRows, EdgeRow
from producers.sources.inventory.source import Inventory
from producers.sources.options import BuildContext
from producers.sources.source import SourceError

T0 = 1_764_000_000_000


class AllStepsDone(Exception):
    """The last look is over."""


class Looks:
    """A clock and a sleep: each sleep takes two seconds and then does the next thing of `steps`; the last one ends."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self._steps, self.now_s = list(steps), T0 / 1000

    async def sleep(self, seconds: float) -> None:
        if not self._steps:
            raise AllStepsDone
        self.now_s += seconds
        self._steps.pop(0)()

    def clock(self) -> float:
        return self.now_s


def wait() -> None:
    """A look at which nothing happens."""


def write(path: Path, text: str, at_ms: int = T0 - 60_000) -> Callable[[], None]:
    def step() -> None:
        path.write_text(text)
        os.utime(path, ns=(at_ms * 1_000_000, at_ms * 1_000_000))

    return step


async def emitted(files: list[Path], *steps: Callable[[], object]) -> tuple[list[Emission], Inventory]:
    looks = Looks(*steps)
    source = Inventory([str(f) for f in files], "site-1", sleep=looks.sleep, clock=looks.clock)
    return await _all(source.emissions()), source


async def _all(run: AsyncGenerator[Emission]) -> list[Emission]:
    found: list[Emission] = []

    async def read() -> None:
        async for emission in run:
            found.append(emission)  # noqa: PERF401 - what came before the end counts

    with pytest.raises(AllStepsDone):
        await read()
    return found


def rows(emissions: list[Emission], stream: str) -> list[dict[str, Any]]:
    return [
        {k: int(v.timestamp() * 1000) if hasattr(v, "timestamp") else v for k, v in row.items()}
        for e in emissions
        if isinstance(e, Event) and e.derived.name == stream
        for row in e.batch.to_pylist()
    ]


def assets(emissions: list[Emission]) -> list[tuple[str, str, int, int]]:
    return [(r["asset"], r["state"], r["valid_from"], r["valid_to"]) for r in rows(emissions, "asset")]


async def test_rows_are_emitted_at_the_start_with_the_files_time(tmp_path: Path) -> None:
    path = tmp_path / "racks.csv"
    write(path, "kind,hall,rack\nrack,H1,R1\n")()
    found, source = await emitted([path])
    assert assets(found) == [("R1", "active", T0 - 60_000, 0)]
    (edge,) = rows(found, "edge")
    assert (edge["network"], edge["upstream"], edge["downstream"], edge["origin"]) == ("contains", "H1", "R1", "csv")
    assert (edge["valid_from"], edge["seen"]) == (T0 - 60_000, T0)
    assert source.errors == {}


async def test_a_change_emits_the_difference_and_ends_what_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "racks.csv"
    write(path, "kind,rack,model\nrack,R1,a\nrack,R2,a\nrack,R3,a\n")()
    change = write(path, "kind,rack,model\nrack,R1,a\nrack,R2,b\n", T0 + 1000)
    found, _ = await emitted([path], change, wait, wait)
    assert assets(found)[3:] == [
        ("R2", "active", T0 - 60_000, T0 + 1000),  # what it was ends where the new row begins
        ("R2", "active", T0 + 1000, 0),
        ("R3", "active", T0 - 60_000, T0 + 4000),  # gone: it ends when that is seen, at the second look
    ]


async def test_a_file_is_not_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "racks.csv"
    write(path, "kind,rack\nrack,R1\n")()
    half = write(path, "kind,rack\n", T0 + 1000)
    whole = write(path, "kind,rack\nrack,R1\nrack,R2\n", T0 + 3000)
    found, _ = await emitted([path], half, whole, wait, wait)
    assert [(name, end) for name, _, _, end in assets(found)] == [("R1", 0), ("R2", 0)]


async def test_while_a_file_has_a_bad_line_nothing_of_it_ends(tmp_path: Path) -> None:
    path, other = tmp_path / "racks.csv", tmp_path / "more.csv"
    write(path, "kind,rack\nrack,R1\nrack,R2\n")()
    write(other, "kind,rack\nrack,R9\n")()
    bad = write(path, "kind,rack\nrack,R1\nrakc,R2\n", T0 + 1000)
    gone = write(other, "kind,rack\n", T0 + 1000)
    mended = write(path, "kind,rack\nrack,R1\n", T0 + 5000)
    found, source = await emitted([path, other], lambda: (bad(), gone()), wait, mended, wait)
    ends = [(name, end) for name, _, _, end in assets(found) if end]
    assert ends == [("R9", T0 + 4000), ("R2", T0 + 8000)]
    (quality,) = rows(found, "quality")
    assert (quality["metric"], quality["reason"], quality["count"]) == (str(path), "inventory-mistake", 1)
    assert source.errors == {}


async def test_a_mistake_is_in_the_status(tmp_path: Path) -> None:
    path = tmp_path / "racks.csv"
    write(path, "kind,rack\nrack,R1\nrakc,R2\n")()
    _, source = await emitted([path])
    assert source.errors[str(path)] == (
        f"1 mistakes in 2 lines; the first: {path}, line 3, column kind: 'rakc' is no kind; did you mean 'rack'?"
    )


async def test_a_file_that_vanishes_is_a_failure_and_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "racks.csv"
    text = "kind,rack\nrack,R1\n"
    write(path, text)()
    found, source = await emitted([path], path.unlink, *[wait] * 31)
    assert [e.reason for e in found if isinstance(e, SourceFailure)] == ["unreadable"]
    assert assets(found) == [("R1", "active", T0 - 60_000, 0)]
    assert "No such file" in source.errors[str(path)]
    again, healed = await emitted_after(path, text)
    assert (assets(again), healed.errors) == ([("R1", "active", T0 - 60_000, 0)], {})


async def emitted_after(path: Path, text: str) -> tuple[list[Emission], Inventory]:
    """The file vanishes and comes back as it was."""
    write(path, text)()
    return await emitted([path], path.unlink, wait, write(path, text), wait, wait)


def test_a_file_that_is_not_there_at_the_start_is_an_error() -> None:
    with pytest.raises(SourceError, match=r"inventory file nowhere\.csv: there is no such file"):
        Inventory(["nowhere.csv"], "site-1")
    values = {o.field: o.default for o in registry.find("inventory").options}
    with pytest.raises(SourceError, match="name at least one, --inventory"):
        registry.build("inventory", values, BuildContext(0.0))


def test_ten_thousand_racks_unfold_into_bounded_events(tmp_path: Path) -> None:
    """No event is larger than a message may be."""
    declared = DeclaredRows("csv")
    many = [AssetRow(site="s", asset=f"G{n}", kind="gpu") for n in range(50_001)]
    events = list(declared.update(many, T0))
    assert [e.batch.num_rows for e in events] == [20_000, 20_000, 10_001]
    assert list(declared.update(many, T0 + 1)) == []


def test_a_row_of_a_stated_time_replaces_itself() -> None:
    """Its key in the store stays the same: no second row, and no end."""
    declared = DeclaredRows("csv")
    edge = EdgeRow(site="s", network="power", upstream="A", downstream="B", valid_from=5)
    list(declared.update([edge], T0))
    wider = EdgeRow(site="s", network="power", upstream="A", downstream="B", valid_from=5, capacity_w=7.0)
    (event,) = declared.update([wider], T0)
    assert event.batch.num_rows == 1
    assert rows([event], "edge")[0]["valid_to"] == 0
