"""A source that dies is started again, later each time; a source that ends is not."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping

import pytest

from producers.sources.source import Emission, SourceError, SourceFailure
from producers.sources.supervised import SupervisedSource

Run = tuple[int, float, Exception | None]  # emissions, seconds that pass at each, how it ends


class World:
    """A clock that moves only when someone sleeps or a source works."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds


class Scripted:
    """A source of so many runs, each of which ends as its script has it."""

    def __init__(self, world: World, *runs: Run) -> None:
        self._world, self._runs = world, list(runs)
        self.closed = 0
        self.errors: Mapping[str, str] = {}

    @property
    def describe(self) -> str:
        return "scripted"

    async def emissions(self) -> AsyncGenerator[Emission]:
        count, each_s, end = self._runs.pop(0)
        try:
            for number in range(count):
                self._world.now_s += each_s
                yield SourceFailure(endpoint="e", reason="test", ts_ms=number)
            if end:
                raise end
        finally:
            self.closed += 1


def supervised(world: World, source: Scripted) -> SupervisedSource:
    return SupervisedSource("scripted", source, sleep=world.sleep, clock=lambda: world.now_s)


async def test_a_source_that_dies_goes_on_and_says_so_until_it_gives_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    source = Scripted(world, (2, 1, RuntimeError("no\nmore")), (1, 1, None))
    kept = supervised(world, source)
    stamps, states = [], [kept.status()]

    async def watched(seconds: float) -> None:
        states.append(kept.status())
        await world.sleep(seconds)

    kept = SupervisedSource("scripted", source, sleep=watched, clock=lambda: world.now_s)
    with caplog.at_level(logging.ERROR, "gigawatch.source"):
        async for emission in kept.emissions():
            assert isinstance(emission, SourceFailure)
            stamps.append(emission.ts_ms)
            states.append(kept.status())
    well = {"source_state": "running", "source_restarts": 0, "source_errors": {}}
    died = {
        "source_state": "restarting",
        "source_restarts": 0,
        "source_errors": {"scripted": "died of RuntimeError: no more"},
    }
    assert stamps == [0, 1, 0]
    assert states == [well, well, well, died, {**well, "source_restarts": 1}]
    assert kept.status() == {"source_state": "ended", "source_restarts": 1, "source_errors": {}}
    assert [r.getMessage() for r in caplog.records] == [
        "source scripted died of RuntimeError: no more; it starts again in 1 s"
    ]


async def test_waits_double_up_to_a_minute_and_begin_anew_after_a_minute_of_success() -> None:
    world = World()
    dies = (1, 1.0, OSError("gone"))
    source = Scripted(world, *[dies] * 8, (2, 30.0, OSError("gone")), dies, (0, 0, None))
    async for _ in supervised(world, source).emissions():
        pass
    assert world.waits == [1, 2, 4, 8, 16, 32, 60, 60, 1, 2]


async def test_what_a_task_group_died_of_is_named() -> None:
    world = World()
    group = ExceptionGroup("unhandled errors in a TaskGroup", [UnicodeError("label empty")])
    source = Scripted(world, (0, 0, group), (0, 0, None))
    seen = []
    kept: SupervisedSource

    async def sleep(_: float) -> None:
        seen.append(kept.status()["source_errors"])

    kept = SupervisedSource("dcgm", source, sleep=sleep, clock=lambda: 0.0)
    assert [e async for e in kept.emissions()] == []
    assert seen == [{"dcgm": "died of UnicodeError: label empty"}]


async def test_a_source_whose_options_cannot_be_met_ends_with_its_error() -> None:
    world = World()
    source = Scripted(world, (1, 1, SourceError("line 7: 2 columns, wanted 3")))
    kept = supervised(world, source)
    with pytest.raises(SourceError, match="line 7"):
        [e async for e in kept.emissions()]
    assert world.waits == []
    assert kept.status()["source_state"] == "ended"
    assert kept.status()["source_errors"] == {"scripted": "line 7: 2 columns, wanted 3"}


async def test_a_source_that_is_no_longer_read_is_closed() -> None:
    world = World()
    source = Scripted(world, (5, 1, None))
    emissions = supervised(world, source).emissions()
    await anext(emissions)
    await emissions.aclose()
    assert source.closed == 1
    assert world.waits == []


async def test_errors_of_endpoints_stand_beside_those_of_the_source() -> None:
    world = World()
    source = Scripted(world, (0, 0, None))
    source.errors = {"http://h/m": "timeout: no answer within 0.8 s"}
    kept = supervised(world, source)
    assert kept.status()["source_errors"] == {"http://h/m": "timeout: no answer within 0.8 s"}
    source.errors = {}
    assert kept.status()["source_errors"] == {}
