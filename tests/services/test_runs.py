"""Ways to run a factory: a recording, bad input, services that run already, signals, Python; with the embedded broker."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import pytest
from aiokafka import AIOKafkaProducer

from pipeline import api
from pipeline.instance import running
from schemas.codec import encode
from schemas.frame import build
from tests.conftest import DATA
from tests.factories import Start, processes, run, whole
from tests.make_samples import small_frame

pytestmark = pytest.mark.service(45)


@pytest.mark.parametrize("trace", ["sample", "nvidia"])
def test_a_trace_goes_through_and_closes(factory: Start, trace: str, request: pytest.FixtureRequest) -> None:
    """The sample of this repository; and NVIDIA's recorded facility, where it is at hand."""
    path = (
        DATA / "dsx_sample.csv"
        if trace == "sample"
        else request.getfixturevalue("recorded") / "dsx" / "dsx_exemplar.csv"
    )
    up = factory("--source", f"replay:{path}", "--speed", "2")
    up.process.wait(150)
    summary = up.finish()
    whole(summary)
    rows = run("query", "heat-balance", "--data-dir", str(up.folder)).stdout.splitlines()[1:]
    assert len(rows) == {"sample": 2, "nvidia": 5}[trace]
    for row in rows:
        assert 0.92 <= float(row.split("\t")[6]) <= 0.96, row


async def _send(bootstrap: str, messages: list[tuple[str, bytes]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    for topic, value in messages:
        await producer.send_and_wait(topic, value)
    await producer.stop()


def test_bad_frames_become_dead_letters_and_the_pipeline_goes_on(factory: Start) -> None:
    up = factory("--racks", "1")
    up.until(lambda: up.stored() > 200)
    now = int(time.time() * 1000)
    who = {"site": ["site-1"], "rack": ["R0001"], "device": ["by-hand"]}
    week, future = (encode(build("gpu", now + d, who, {"power_w": [1.0]})) for d in (-7 * 86_400_000, 3_600_000))
    known = running(up.folder)
    assert known is not None
    asyncio.run(
        _send(
            known.bootstrap,
            [
                ("telemetry.gpu", b"garbage \x00\xff"),
                ("telemetry.gpu", (DATA.parent / "golden" / "unknown-column.arrow").read_bytes()),
                ("telemetry.gpu", week),
                ("telemetry.gpu", future),
                ("telemetry.power", encode(small_frame())),
                ("scores", b"junk"),
            ],
        )
    )
    up.until(lambda: up.status("sink").get("dead_letters") == 6)
    before = up.stored()
    up.until(lambda: up.stored() > before + 100)
    assert up.status("sink")["dead"] == {"not-arrow": 2, "schema": 1, "stale": 1, "future": 1, "kind": 1}

    def discarded() -> dict[str, int]:
        return {k: v for k, v in up.status("stream-0").get("counts", {}).items() if k.startswith("discarded")}

    up.until(lambda: sum(discarded().values()) >= 5, 60, "the worker's counts")
    assert discarded() == {
        "discarded:not-arrow": 1,
        "discarded:schema": 1,
        "discarded:stale": 1,
        "discarded:future": 1,
        "discarded:kind": 1,
    }
    whole(up.finish())


def test_services_that_run_already_are_used(factory: Start, broker: str, clickhouse: str) -> None:
    up = factory("--racks", "1", "--site", "elsewhere", "--broker", broker, "--clickhouse", clickhouse)
    up.until_stored(300)
    summary = up.finish()
    assert summary["rows_missing"] == summary["rows_duplicate"] == 0
    assert set(summary["cpu_s"]) == {"sink", "stream-0", "producer"}
    assert "elsewhere" in run("query", "SELECT DISTINCT site FROM gpu", "--clickhouse", clickhouse).stdout


def test_sigterm_is_as_good_as_ctrl_c(factory: Start) -> None:
    up = factory("--racks", "1")
    up.until(lambda: up.stored() > 100)
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(60) == 0
    whole(json.loads((up.folder / "summary.json").read_text()))
    assert processes(up.folder) == {}
    again = up.folder / "again.json"
    run("up", "--data-dir", str(up.folder), "--racks", "1", "--seconds", "6", "--summary", str(again), timeout=90)
    whole(json.loads(again.read_text()))


async def test_live_frames_from_python(factory: Start) -> None:
    up = factory("--racks", "2")
    await asyncio.to_thread(up.until, lambda: up.stored() > 100)
    found = []
    async for frame in api.live("gpu", "R0002", data_dir=up.folder):
        found.append(frame)
        if len(found) == 3:
            break
    assert {f.key() for f in found} == {b"site-1/R0002"}
    assert [f.rows for f in found] == [72, 72, 72]
    await asyncio.to_thread(up.finish)
