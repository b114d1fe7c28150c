"""DSX messages: mapping, traps, sample and hold, replay of traces and of our own Parquet."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from producers.sources.dsx.parse import HOLD_MS, InvalidMessage, Points
from producers.sources.replay.source import DsxReplay, open_recording, seconds
from producers.sources.source import SourceError
from producers.sources.synthetic.source import Synthetic
from schemas.frame import Frame, concat
from tests.conftest import DATA

NOW = 1_750_000_000_000


def meta(points: Points, topic: str, **body: object) -> None:
    points.ingest(f"BMS/v1/PUB/Metadata/{topic}", json.dumps(body), NOW)


def value(points: Points, topic: str, number: object, stamp: object = NOW, **more: object) -> None:
    points.ingest(
        f"BMS/v1/PUB/Value/{topic}", json.dumps({"value": number, "timestamp": stamp, "quality": 1, **more}), NOW
    )


RACK = "Rack/RackPower/nv/t/pod/rowE/rack02/info/power/power/value"
FLOW = "Rack/RackLiquidFlow/nv/t/pod/rowE/rack02/energyValve/flow/feedback/value"
CDU = "CDU/LiquidFlow/nv/t/pod/CDU-5/secondary/flow/feedback/value"


@pytest.mark.parametrize(
    ("unit", "number", "watts"), [("kW", 35.2, 35200), ("W", 35200, 35200), ("MW", 0.0352, 35200), (None, 35.2, 35200)]
)
def test_units_are_converted(unit: str | None, number: float, watts: float) -> None:
    points = Points()
    meta(points, RACK, rackLocationId="E02", engUnit=unit)
    value(points, RACK, number)
    (frame,) = points.frames(NOW)
    assert (frame.kind, frame.key(), frame.identity("model")) == ("power", b"nv/t/E02", ["rack-meter"])
    assert frame.values("power_w")[0] == pytest.approx(watts)


def test_a_misspelt_process_area_is_still_understood() -> None:
    points = Points()
    topic = "CDU/LiquidFlow/nv/t/pod/CDU-5/loop/flow/feedback/value"
    meta(points, topic, objectId="CDU-5", engUnit="LPM", processArea=["Seccondary"])
    value(points, topic, 900)
    assert next(points.frames(NOW)).values("flow_lpm")[0] == 900


def test_primary_and_secondary_are_told_apart() -> None:
    points = Points()
    for side, number in (("primary", 5.0), ("secondary", 900.0)):
        topic = f"CDU/LiquidFlow/nv/t/pod/CDU-5/{side}/flow/feedback/value"
        meta(points, topic, objectId="CDU-5", engUnit="LPM")
        value(points, topic, number)
    frame = next(points.frames(NOW))
    assert (frame.values("primary_flow_lpm")[0], frame.values("flow_lpm")[0]) == (5.0, 900.0)


def test_seconds_are_taken_for_what_they_are_and_counted() -> None:
    points = Points()
    meta(points, RACK, rackLocationId="E02", engUnit="kW")
    value(points, RACK, 35.2, NOW // 1000)
    assert points.refused["seconds"] == 1
    assert next(points.frames(NOW)).values("power_w")[0] == pytest.approx(35200)


def test_values_are_held_until_the_republish_interval_is_over() -> None:
    points = Points()
    meta(points, FLOW, rackLocationId="E02", engUnit="LPM")
    value(points, FLOW, 50.0)
    assert next(points.frames(NOW + HOLD_MS)).values("flow_lpm")[0] == 50.0
    assert list(points.frames(NOW + HOLD_MS + 1)) == []


def test_set_points_requests_and_positions_without_a_scale_are_no_measurements() -> None:
    points = Points()
    sp, valve = (
        "CDU/LiquidTemperature/nv/t/pod/CDU-5/secondary/tempSetpoint/rValue",
        "Valve/ValvePosition/nv/t/pod/rowE/rack02/supplyValve/positionCommand/rValue",
    )
    meta(points, sp, objectId="CDU-5", engUnit="C", isSetpoint=True)
    meta(points, valve, stateText=[{"value": 0, "text": "Closed"}])
    value(points, sp, 30)
    value(points, valve, 1)
    assert list(points.frames(NOW)) == []
    assert sum(points.unmapped.values()) == 2


def test_bad_quality_is_not_taken() -> None:
    points = Points()
    meta(points, FLOW, rackLocationId="E02", engUnit="LPM")
    value(points, FLOW, 50.0, quality=0)
    assert list(points.frames(NOW)) == []
    assert points.refused["quality"] == 1


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("BMS/v1/other", "{}", "topic"),
        (f"BMS/v1/PUB/Value/{FLOW}", "{", "json"),
        (f"BMS/v1/PUB/Value/{FLOW}", "[1]", "json"),
        (f"BMS/v1/PUB/Value/{FLOW}", '{"value": "high", "timestamp": 1}', "value"),
        (f"BMS/v1/PUB/Value/{FLOW}", '{"value": true, "timestamp": 1}', "value"),
    ],
)
def test_refusals_say_why_and_cost_nothing(topic: str, payload: str, reason: str) -> None:
    points = Points()
    meta(points, FLOW, rackLocationId="E02", engUnit="LPM")
    value(points, FLOW, 50.0)
    with pytest.raises(InvalidMessage) as caught:
        points.ingest(topic, payload, NOW)
    assert caught.value.reason == reason
    assert next(points.frames(NOW)).values("flow_lpm")[0] == 50.0


@pytest.mark.parametrize(
    ("text", "value_s"),
    [("0s", 0), ("3.4731ms", 0.0034731), ("1m39.3675441s", 99.3675441), ("1h2m3s", 3723), ("250µs", 0.00025)],
)
def test_go_durations(text: str, value_s: float) -> None:
    assert seconds(text) == pytest.approx(value_s)


@pytest.mark.parametrize("text", ["", "abc", "1x", "5"])
def test_no_durations(text: str) -> None:
    with pytest.raises(SourceError, match="not a duration"):
        seconds(text)


async def collect(replay: object) -> list[Frame]:
    return [e async for e in replay.emissions() if isinstance(e, Frame)]  # type: ignore[attr-defined]


async def test_the_sample_trace_replays_whole() -> None:
    frames = await collect(DsxReplay(DATA / "dsx_sample.csv", 1.0, 0.0))
    ticks = sorted({int(f.ts_ms()[0]) for f in frames})
    assert len(ticks) == 80
    assert {b - a for a, b in itertools.pairwise(ticks)} == {1000}
    last = [f for f in frames if int(f.ts_ms()[0]) == ticks[-1]]
    assert {(f.kind, f.key()) for f in last} == {
        (k, f"gigawatch/sample/{r}".encode()) for k in ("power", "cooling") for r in ("R0001", "R0002")
    }


async def test_nvidias_trace_replays_whole(recorded: Path) -> None:
    replay = DsxReplay(recorded / "dsx" / "dsx_exemplar.csv", 1.0, 0.0)
    frames = await collect(replay)
    assert len({f.key() for f in frames if f.identity("model")[0] == "rack-loop"}) == 5
    assert len({f.key() for f in frames if f.identity("model")[0] == "rack-meter"}) == 6
    assert not replay.points.refused
    cdu = [f for f in frames if f.identity("model")[0] == "cdu"][-1]
    assert cdu.values("pump_speed_pct")[0] == 44
    assert cdu.values("diff_pressure_kpa")[0] == pytest.approx(90, abs=2)


async def test_our_own_frames_replay_as_they_were(tmp_path: Path) -> None:
    plant = Synthetic(2, "H100", seed=9)
    original = [e for k in range(5) for e in plant.tick(NOW + 1000 * k) if isinstance(e, Frame)]
    for kind in {f.kind for f in original}:
        pq.write_table(pa.table(concat([f for f in original if f.kind == kind]).batch), tmp_path / f"{kind}.parquet")
    replayed = await collect(open_recording(str(tmp_path), speed=0.0, keep_time=True))
    for kind in ("gpu", "node"):
        before = sorted((int(f.ts_ms()[0]), f.key(), f.values("power_w").tolist()) for f in original if f.kind == kind)
        after = sorted((int(f.ts_ms()[0]), f.key(), f.values("power_w").tolist()) for f in replayed if f.kind == kind)
        assert after == before
    moved = await collect(open_recording(str(tmp_path), speed=0.0))
    assert min(int(f.ts_ms()[0]) for f in moved) > NOW
    assert sum(f.rows for f in moved) == sum(f.rows for f in original)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.csv", "x,y\n", "first line is"),
        ("a.csv", "offset,topic,payload\n1s,a\n", "line 2: 2 columns"),
        ("a.csv", b"offset,topic,payload\n1s,a,\xff\n", "not a DSX trace"),
        ("a.csv", 'offset,topic,payload\n1s,a,"' + "x" * 200_000, "not a DSX trace"),
        ("a.parquet", "nope", "not a Parquet file"),
        ("a.txt", "", "wants a DSX trace"),
    ],
)
async def test_a_wrong_recording_says_what_is_wrong(
    tmp_path: Path, name: str, content: str | bytes, complaint: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SourceError, match=complaint):
        await collect(open_recording(str(path), speed=0.0))


def test_a_missing_recording_is_said() -> None:
    with pytest.raises(SourceError, match="no such file"):
        open_recording("/nowhere/at/all.csv")


@pytest.mark.parametrize(
    "payload",
    [
        "[" * 100_000,
        '{"value": 1e400}',
        '{"value": NaN}',
        '{"value": 1, "timestamp": Infinity}',
        '{"value": ' + "9" * 400 + "}",
        '{"value": true}',
        "3",
    ],
)
def test_payloads_that_would_break_a_careless_reader_are_refused(payload: str) -> None:
    points = Points("s")
    with pytest.raises(InvalidMessage):
        points.ingest("BMS/v1/PUB/Value/Rack/RackPower/a/b/R1/power", payload, 1_750_000_000_000)
    assert list(points.frames(1_750_000_000_000)) == []
