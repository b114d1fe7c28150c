"""The status of a process judged, as Prometheus metrics, and served on loopback or with a token."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.monitoring import http
from pipeline.monitoring.health import judge
from pipeline.monitoring.metrics import METRICS, PROCESS, exposition
from pipeline.monitoring.status import Status
from pipeline.monitoring.statuses import ProducerStatus, SinkStatus, WatchStatus, parse
from schemas.errors import AddressError

NOW = 1_800_000_000.0
SINK: dict[str, Any] = {
    "at": NOW - 1,
    "cpu_s": 12.5,
    "peak_rss_mb": 300,
    "assigned": 4,
    "rows": {"gpu": 1000, "power": 7},
    "received": {"telemetry.gpu": 20},
    "discarded": {"stale": 2},
    "dead": {"stale": 2},
    "retries": 3,
    "commits_refused": 0,
    "buffered_bytes": 1 << 20,
    "trouble": "",
    "last_commit": NOW - 2.5,
    "freshness": {"p50_s": 1.2, "p99_s": 2.0, "slope": 0.0},
    "positions": {"telemetry.gpu/0": 17},
}


@pytest.mark.parametrize(
    ("kind", "status", "why"),
    [
        ("sink", {}, "no status from it yet"),
        ("sink", {**SINK, "at": NOW - 40}, "no status from it for 40 s"),
        ("sink", {**SINK, "assigned": 0}, "it has no partitions"),
        ("sink", {**SINK, "trouble": "gpu: too many parts"}, "gpu: too many parts"),
        ("sink", {**SINK, "last_commit": NOW - 90}, "nothing was committed for 90 s, with 1 MB buffered"),
        ("stream", {"at": NOW, "assigned": 0}, "it has no partitions"),
        ("producer", {"at": NOW, "waiting_s": 20.0}, "Kafka has acknowledged nothing for 20 s"),
        (
            "producer",
            {"at": NOW, "spool": {"bytes": 900 << 20, "limit": 1000 << 20, "dropped_rows": 0}},
            "the disk buffer holds 900 of 1000 MB",
        ),
        (
            "producer",
            {"at": NOW, "spool": {"bytes": 1 << 20, "limit": 1000 << 20, "dropped_rows": 5}},
            "5 rows were dropped",
        ),
    ],
)
def test_what_is_wrong_is_named(kind: str, status: dict[str, Any], why: str) -> None:
    found = judge(parse(kind, status), NOW)
    assert not found.ready
    assert why in str(found)
    assert found.live == (bool(status) and NOW - status["at"] < 30)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("sink", SINK),
        ("sink", {**SINK, "last_commit": NOW - 90, "buffered_bytes": 0}),
        ("stream", {"at": NOW, "assigned": 3}),
        ("producer", {"at": NOW, "waiting_s": 1.0, "spool": {"bytes": 0, "limit": 0}}),
    ],
)
def test_what_works_is_ready(kind: str, status: dict[str, Any]) -> None:
    assert str(judge(parse(kind, status), NOW)) == "ready"


def test_rows_dropped_for_their_size_make_a_producer_not_ready_and_name_the_remedy() -> None:
    found = judge(
        parse(
            "producer",
            {
                "at": NOW,
                "refused_rows": 72,
                "refused_messages": 3,
                "refused": {
                    "telemetry.gpu": {"messages": 2, "rows": 72, "reason": "33 MB"},
                    "jobs": {"messages": 1, "rows": 0, "reason": "40 MB"},
                },
            },
        ),
        NOW,
    )
    assert (found.live, found.ready) == (True, False)
    assert (
        "72 rows were dropped in messages larger than Kafka takes (1 on jobs: 40 MB, 2 on telemetry.gpu: 33 MB)"
        in str(found)
    )
    assert "let the source send smaller frames" in str(found)
    assert not judge(parse("producer", {"at": NOW, "refused_rows": 5}), NOW).ready, "of an older producer"


def test_a_source_that_is_being_restarted_turns_health_red() -> None:
    found = judge(
        ProducerStatus(
            at=NOW, source_state="restarting", source_restarts=3, source_errors={"nvml": "driver not loaded"}
        ),
        NOW,
    )
    assert (found.live, found.ready, found.degraded) == (True, False, ())
    assert str(found) == ("its source failed and is being restarted (3 restarts so far): nvml: driver not loaded")


def test_one_endpoint_that_fails_is_named_and_the_producer_stays_ready() -> None:
    found = judge(ProducerStatus(at=NOW, source_errors={"node-7:9400": "connection refused"}), NOW)
    assert (found.live, found.ready, found.why) == (True, True, ())
    assert str(found) == "ready, degraded: the source cannot read node-7:9400: connection refused"
    recovered = judge(ProducerStatus(at=NOW, source_restarts=3), NOW)
    assert str(recovered) == "ready"


def test_of_many_failing_endpoints_the_first_are_named_and_the_others_counted() -> None:
    found = judge(ProducerStatus(at=NOW, source_errors={f"n{k:02d}": "timeout" for k in range(40)}), NOW)
    assert str(found).endswith("n03: timeout; n04: timeout; and 35 more")


def test_a_watch_page_is_ready_while_it_reports() -> None:
    assert str(judge(WatchStatus(at=NOW - 1), NOW)) == "ready"
    assert not judge(WatchStatus(at=NOW - 60), NOW).live


def test_metrics_are_prometheus_text_with_the_figures_of_the_status() -> None:
    found = _samples(
        {
            "sink": SINK,
            "stream-1": {"at": NOW, "assigned": 2, "published": {"score": 5}, "last_progress": NOW - 4},
            "clickhouse": {},
        }
    )
    sink = ("process", "sink")
    assert found["gigawatch_ready", (sink,)] == 1.0
    assert found["gigawatch_sink_rows_total", (sink, ("table", "gpu"))] == 1000
    assert found["gigawatch_sink_commit_age_seconds", (sink,)] == 2.5
    assert found["gigawatch_sink_freshness_seconds", (sink, ("quantile", "0.99"))] == 2.0
    assert found["gigawatch_stream_progress_age_seconds", (("process", "stream-1"),)] == 4.0
    assert found["gigawatch_stream_published_rows_total", (("process", "stream-1"), ("stream", "score"))] == 5
    assert not any("producer" in name for name, _ in found)
    assert all(spec.help.endswith(".") for specs in (PROCESS, *METRICS.values()) for spec in specs)


def test_metrics_show_what_was_dropped_for_its_size_and_what_fails_of_the_source() -> None:
    found = _samples(
        {
            "producer": {
                "at": NOW,
                "refused_rows": 72,
                "refused_messages": 2,
                "refused": {"telemetry.gpu": {"messages": 2, "rows": 72}},
                "source_errors": {"node-7:9400": "connection refused"},
                "source_restarts": 3,
                "source_state": "restarting",
            }
        }
    )
    producer = ("process", "producer")
    assert found["gigawatch_producer_refused_rows_total", (producer,)] == 72
    assert found["gigawatch_producer_refused_messages_total", (producer, ("topic", "telemetry.gpu"))] == 2
    assert found["gigawatch_producer_source_error", (producer, ("source", "node-7:9400"))] == 1
    assert found["gigawatch_producer_source_restarts_total", (producer,)] == 3
    states = {s: found["gigawatch_producer_source_state", (producer, ("state", s))] for s in ("running", "restarting")}
    assert states == {"running": 0, "restarting": 1}
    assert found["gigawatch_ready", (producer,)] == 0


def test_a_failing_endpoint_shows_as_degraded_and_not_as_not_ready() -> None:
    found = _samples({"producer": {"at": NOW, "source_errors": {"node-7:9400": "connection refused"}}})
    producer = ("process", "producer")
    assert (found["gigawatch_ready", (producer,)], found["gigawatch_degraded", (producer,)]) == (1, 1)


def _samples(statuses: dict[str, dict[str, Any]]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Value by (name, labels) of the exposition of these statuses."""
    text = exposition({name: parse(name, status) for name, status in statuses.items()}, NOW).decode()
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


async def _get(url: str, token: str = "") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


@pytest.mark.service
async def test_a_process_serves_its_metrics_and_health() -> None:
    counts = dict(SINK, last_commit=None)
    process = await Status("sink", None, lambda: counts, "127.0.0.1:0").begin()
    keeping = asyncio.create_task(process.keep(0.01))
    url = process.snapshot()["metrics_at"]
    assert (await _get(f"{url}/live"))[0] == 200
    assert (await _get(f"{url}/ready")) == (200, "yes\n")
    assert 'gigawatch_sink_rows_total{process="sink",table="gpu"} 1000.0' in (await _get(f"{url}/metrics"))[1]
    counts["trouble"] = "gpu: memory limit exceeded"
    assert (await _get(f"{url}/ready")) == (503, "sink: gpu: memory limit exceeded\n")
    code, body = await _get(f"{url}/health")
    assert code == 503
    assert '"why": ["gpu: memory limit exceeded"]' in body
    assert (await _get(f"{url}/live"))[0] == 200
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    with pytest.raises(aiohttp.ClientError):
        await _get(f"{url}/live")


@pytest.mark.parametrize(
    ("listen", "complaint"),
    [
        ("9100", "it is HOST:PORT"),
        ("0.0.0.0:0", "set GIGAWATCH_METRICS_TOKEN"),
        ("127.0.0.1:x", "HOST:PORT"),
        ("127.0.0.1:70000", "cannot listen there"),
    ],
)
async def test_where_it_must_not_listen(listen: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIGAWATCH_METRICS_TOKEN", raising=False)
    with pytest.raises(AddressError, match=complaint):
        await http.serve(listen, dict)


@pytest.mark.service
async def test_off_loopback_a_token_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIGAWATCH_METRICS_TOKEN", "open sesame")
    runner = await http.serve("0.0.0.0:0", lambda: {"sink": SinkStatus.from_json(SINK)})
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    assert (await _get(f"{url}/metrics"))[0] == 401
    assert (await _get(f"{url}/metrics", "open"))[0] == 401
    assert (await _get(f"{url}/metrics", "open sesame"))[0] == 200
    await runner.cleanup()
    runner = await http.serve("127.0.0.1:0", dict)
    taken = runner.addresses[0][1]
    with pytest.raises(AddressError, match=r"cannot listen there.*give another port"):
        await http.serve(f"127.0.0.1:{taken}", dict)
    await runner.cleanup()
