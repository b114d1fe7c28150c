"""History on the real engine: raw samples and every roll-up tier give the same answer for the same samples."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clickhouse_connect.driver.client import Client

from pipeline.sink.batcher import Batcher
from pipeline.sink.writer import Writer
from pipeline.store import rollup
from pipeline.store.client import open_folder
from pipeline.store.history import AskError, HistoryQuery, history
from pipeline.store.migrate import migrate
from pipeline.store.tables import BY_TOPIC
from pipeline.store.tiers import TIERS, choose_tier, width_s
from pipeline.stream.worker import Worker
from schemas import topics
from schemas.codec import encode
from schemas.frame import Frame, build
from schemas.log_record import LogRecord
from tests.pipeline.store.model_rows import Hold, hold

#: A whole hour of today, which is over: what is older than its table keeps would be dropped.
START = (int(time.time()) // 3600 - 1) * 3_600_000
TICKS, CLOSING = 150, 40
#: The longest range that each tier answers, in seconds.
SPANS = {"raw": 3600, "10s": 86_400, "1m": 30 * 86_400, "1h": 61 * 86_400}


def at(tick: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(START / 1000 + tick, dt.UTC)


def counters() -> dict[str, list[float]]:
    """Device -> its energy at every tick: each draws differently, two start again, one comes late, one is away."""
    rng = np.random.default_rng(4)
    found = {
        f"{rack}-{n}": (4.7e9 * (n + 1) + np.cumsum(rng.integers(100, 900, TICKS))).tolist()
        for rack in ("R1", "R2")
        for n in range(3)
    }
    found["R1-1"][40:] = (7.0 + np.cumsum(rng.integers(100, 900, TICKS - 40))).tolist()
    found["R2-1"][65:] = (7.0 + np.cumsum(rng.integers(100, 900, TICKS - 65))).tolist()  # in the midst of 10 s
    found["R2-2"][:33] = [math.nan] * 33
    found["R1-2"][45:52] = [math.nan] * 7
    return found


def increases(values: Sequence[float]) -> list[float]:
    """One at a time: how much each sample adds to the one before it."""
    out, before = [], math.nan
    for value in values:
        step = value - before
        out.append(0.0 if math.isnan(step) else value if step < 0 else step)
        before = before if math.isnan(value) else value
    return out


def gpus(rack: str, tick: int, energy: dict[str, list[float]]) -> Frame:
    names = [d for d in energy if d.startswith(rack)]
    who = {"site": ["s"] * 3, "rack": [rack] * 3, "device": names, "model": ["H100"] * 3}
    values = {"energy_j": [energy[d][tick] for d in names], "util_pct": [50.0 + tick % 7] * 3}
    return build("gpu", START + 1000 * tick, {**who, "node": ["n"] * 3}, values)


def cooling(tick: int) -> Frame:
    """A loop a rack and a pump at the plant: only the pump has a speed."""
    who = {
        "site": ["s"] * 4,
        "rack": ["R1", "R2", "R3", ""],
        "device": ["loop-1", "loop-2", "loop-3", "pump"],
        "model": ["rack-loop"] * 3 + ["pump"],
    }
    values = {"pump_speed_pct": [math.nan] * 3 + [44.0 + tick % 2], "flow_lpm": [50.0, 40.0, 30.0, math.nan]}
    return build("cooling", START + 1000 * tick, who, values)


def closing(tick: int) -> list[Frame]:
    """Later frames without the metrics that are asked for: they close the windows before them."""
    who = {"site": ["s"], "rack": ["R9"], "node": ["n"], "device": ["R9-0"], "model": ["H100"]}
    plant = {"site": ["s"], "rack": ["R9"], "device": ["loop-9"], "model": ["rack-loop"]}
    ts = START + 1000 * tick
    return [build("gpu", ts, who, {"util_pct": [1.0]}), build("cooling", ts, plant, {"supply_temp_c": [30.0]})]


async def fill(client: Client) -> None:
    """Stores the samples, raw and as the stream's worker and the sink's roll-ups make tiers of them."""
    energy = counters()
    batcher, writer, offsets = Batcher(), Writer(client, "history"), Counter[str]()

    def record(topic: str, value: bytes, now_ms: int) -> LogRecord:
        offsets[topic] += 1
        return LogRecord(topic, 0, offsets[topic] - 1, now_ms + 400, value)

    async def publish(topic: str, _: bytes, value: bytes) -> None:
        if topic in BY_TOPIC:
            batcher.add(record(topic, value, START), 0.0)

    worker = Worker(publish)
    for tick in range(TICKS + CLOSING):
        frames = [gpus("R1", tick, energy), gpus("R2", tick, energy), cooling(tick)] if tick < TICKS else closing(tick)
        for frame in frames:
            raw = record(topics.telemetry(frame.kind), encode(frame), START + 1000 * tick)
            batcher.add(raw, 0.0)
            await worker.process(raw.topic, [(0, [raw])])
    assert writer.write(batcher.close()) == []
    rollup.Roller(client).roll(everything=True)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("history")
    (folder / "clickhouse").mkdir()
    client = open_folder(folder)
    migrate(client)
    asyncio.run(fill(client))
    hold(client, [Hold(f"job-{rack}", rack, "n", at(-60)) for rack in ("R1", "R2")])
    yield client
    client.close()


def ask(client: Client, tier: str, metric: str, **more: Any) -> dict[tuple[int, str], dict[str, Any]]:
    """(tick at which the row starts, name) -> the row; over a range that ends with the samples and wants the tier."""
    last = more.pop("last", at(TICKS if TICKS % 60 == 0 or tier in ("raw", "10s") else 180))
    first = more.pop("first", last - dt.timedelta(seconds=SPANS[tier]))
    found = history(client, HistoryQuery(metric, first=first, last=last, **more)).to_pylist()
    by = more.get("by", "device")
    return {(round(r["bucket"].timestamp() - START / 1000), r[by]): r for r in found}


@pytest.mark.parametrize("by", ["device", "rack", "site", "job"])
@pytest.mark.parametrize(
    ("tier", "every_s"), [("raw", 10), ("10s", 10), ("raw", 60), ("10s", 60), ("1m", 60), ("1h", 3600)]
)
def test_a_counters_history_is_its_increase_over_all_devices(stored: Client, tier: str, every_s: int, by: str) -> None:
    expected = Counter[tuple[int, str]]()
    for device, values in counters().items():
        name = {"device": device, "rack": device[:2], "site": "s", "job": f"job-{device[:2]}"}[by]
        for tick, step in enumerate(increases(values)):
            if not math.isnan(values[tick]):
                expected[tick // every_s * every_s, name] += step  # type: ignore[assignment]
    found = ask(stored, tier, "gpu.energy_j", every_s=every_s, by=by)
    assert {key: row["increase"] for key, row in found.items()} == pytest.approx(expected)


def test_the_step_into_the_range_and_into_each_row_is_counted(stored: Client) -> None:
    """A row of 10 s has ten steps, the first of which begins before the range."""
    values = counters()["R1-0"]
    found = ask(stored, "raw", "energy_j", place="R1-0", first=at(60), last=at(70), every_s=10.0)
    assert found[60, "R1-0"]["increase"] == values[69] - values[59]
    assert found[60, "R1-0"]["samples"] == 10


@pytest.mark.parametrize("tier", ["raw", "10s"])
@pytest.mark.parametrize("of", [{"place": "R2"}, {"place": "R2*"}, {"job": "job-R2"}, {"place": "R2-0"}])
def test_a_counters_history_of_one_place(stored: Client, tier: str, of: dict[str, str]) -> None:
    named = [d for d in counters() if d.startswith("R2-0" if of.get("place") == "R2-0" else "R2")]
    expected = sum(sum(increases(counters()[d])) for d in named)
    found = ask(stored, tier, "energy_j", by="site", every_s=10.0, **of)
    assert sum(row["increase"] for row in found.values()) == expected


@pytest.mark.parametrize("by", ["site", "device"])
@pytest.mark.parametrize("tier", ["raw", "10s", "1m", "1h"])
def test_a_mean_leaves_out_devices_that_lack_the_metric(stored: Client, tier: str, by: str) -> None:
    found = ask(stored, tier, "cooling.pump_speed_pct", by=by, every_s=3600.0)
    assert list(found) == [(0, "s" if by == "site" else "pump")]
    (row,) = found.values()
    assert (row["mean"], row["max"], row["samples"]) == (pytest.approx(44.5), 45.0, TICKS)


@pytest.mark.parametrize("tier", ["raw", "10s", "1m", "1h"])
def test_a_derived_metric_counts_only_what_has_it(stored: Client, tier: str) -> None:
    found = ask(stored, tier, "cooling.flow_lpm", by="site", every_s=3600.0)
    assert found[0, "s"]["mean"] == pytest.approx(40.0)
    assert found[0, "s"]["samples"] == 3 * TICKS


def test_the_default_range_ends_with_the_newest_sample_and_holds_it(stored: Client) -> None:
    found = history(stored, HistoryQuery("util_pct", by="rack", every_s=1.0)).to_pylist()
    newest = max(row["bucket"] for row in found)
    assert newest == at(TICKS + CLOSING - 1)


def test_too_many_rows_are_refused_and_not_cut(stored: Client) -> None:
    with pytest.raises(AskError, match=r"more than 5 rows: ask for a shorter range, wider rows \(--every\)"):
        history(stored, HistoryQuery("util_pct", limit=5, every_s=1.0))


def test_the_width_of_a_row_is_a_round_number_in_whole_rows_of_the_tier() -> None:
    raw, ten, minute, hour = TIERS
    assert [width_s(0.0, seconds, raw) for seconds in (60, 240, 900, 3600)] == [1, 1, 5, 15]
    assert [width_s(every, 7200, ten) for every in (0.0, 1.0, 15.0)] == [30, 10, 20]
    assert width_s(90.0, 1e6, minute) == 120
    assert width_s(0.0, 400 * 86_400, hour) == 86_400
    assert width_s(0.5, 60, raw) == 0.5


def test_a_range_that_a_tier_does_not_keep_any_more_is_asked_of_the_next() -> None:
    day = 86_400.0
    assert [choose_tier(900, age).name for age in (900, 8 * day, 40 * day, 400 * day)] == ["raw", "10s", "1m", "1h"]
    assert [choose_tier(s, s).name for s in (3600, day, 60 * day, 61 * day)] == ["raw", "10s", "1m", "1h"]
