"""The faust app: agents, acknowledgement, bundles, and what may be committed."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.structs import ConsumerRecord

from pipeline.stream.app import StreamApp, make_app
from pipeline.stream.transport import MOST_RECORDS, Bundle, _bundled
from schemas.log_record import LogRecord
from tests.pipeline.stream.logs import START


@pytest.fixture
async def app() -> StreamApp:
    """The faust app without a broker, as faust's test context wants it."""
    made = make_app("127.0.0.1:1")
    made.loop = asyncio.get_running_loop()
    made.finalize()
    made.flow_control.resume()
    return made


async def test_the_agent_hands_messages_to_the_worker_and_acknowledges_after(app: StreamApp) -> None:
    seen: list[tuple[str, list[bytes]]] = []
    done = asyncio.Event()

    async def process(topic: str, bundles: list[tuple[int, list[LogRecord]]]) -> None:
        seen.append((topic, [m.value for _, messages in bundles for m in messages]))
        done.set()

    app.worker.process = process  # type: ignore[method-assign,assignment]
    agent = app.agents["agent.telemetry.gpu"]
    async with agent.test_context() as tested:
        await tested.put(Bundle([LogRecord("", 0, 4, START, b"one"), LogRecord("", 0, 5, START, b"two")]), wait=False)
        await asyncio.wait_for(done.wait(), 5)
    assert seen == [("telemetry.gpu", [b"one", b"two"])]


async def test_records_of_a_partition_travel_in_bundles_of_bounded_size() -> None:
    records = [
        ConsumerRecord("t", 0, n, START + n, 0, None, b"%d" % n, None, 0, 1, ()) for n in range(2 * MOST_RECORDS + 5)
    ]
    bundles = _bundled(records)
    assert [len(b.value.records) for b in bundles] == [MOST_RECORDS, MOST_RECORDS, 5]
    assert [b.offset for b in bundles] == [b.value.records[-1].offset for b in bundles], (
        "a bundle stands at its last offset"
    )
    assert [r for b in bundles for r in b.value.records] == [
        ("t", 0, n, START + n, b"%d" % n, ()) for n in range(2 * MOST_RECORDS + 5)
    ]


def test_the_app_has_an_agent_per_topic_and_commits_what_the_worker_allows(app: StreamApp) -> None:
    assert {name.removeprefix("agent.") for name in app.agents} == {
        "telemetry.gpu",
        "telemetry.gpu_instance",
        "telemetry.endpoint",
        "telemetry.node",
        "telemetry.power",
        "telemetry.cooling",
        "rollups.part",
    }
    assert app.transport.Consumer.__name__ == "BundleConsumer"
    assert app.needed_from("telemetry.gpu", 0) is None
