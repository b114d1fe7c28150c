"""What processes say of themselves, judged and as Prometheus metrics; and served, on loopback or with a token."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.monitoring import status
from pipeline.monitoring.health import judge
from pipeline.monitoring.metrics import FIGURES, exposition
from pipeline.monitoring.status import Status
from pipeline.settings import SecurityError

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
    ("kind", "said", "why"),
    [
        ("sink", {}, "it has said nothing yet"),
        ("sink", {**SINK, "at": NOW - 40}, "no word from it for 40 s"),
        ("sink", {**SINK, "assigned": 0}, "it has no partitions"),
        ("sink", {**SINK, "trouble": "gpu: too many parts"}, "gpu: too many parts"),
        ("sink", {**SINK, "last_commit": NOW - 90}, "nothing was committed for 90 s, with 1 MB in hand"),
        ("stream", {"at": NOW, "assigned": 0}, "it has no partitions"),
        ("producer", {"at": NOW, "waiting_s": 20.0}, "Kafka has acknowledged nothing for 20 s"),
        (
            "producer",
            {"at": NOW, "spool": {"bytes": 900 << 20, "limit": 1000 << 20, "dropped_rows": 0}},
            "the spool holds 900 of 1000 MB",
        ),
        (
            "producer",
            {"at": NOW, "spool": {"bytes": 1 << 20, "limit": 1000 << 20, "dropped_rows": 5}},
            "5 rows were dropped",
        ),
    ],
)
def test_what_is_wrong_is_said(kind: str, said: dict[str, Any], why: str) -> None:
    found = judge(kind, said, NOW)
    assert not found.ready
    assert why in str(found)
    assert found.live == (bool(said) and NOW - said["at"] < 30)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("sink", SINK),
        ("sink", {**SINK, "last_commit": NOW - 90, "buffered_bytes": 0}),
        ("stream", {"at": NOW, "assigned": 3}),
        ("producer", {"at": NOW, "waiting_s": 1.0, "spool": {"bytes": 0, "limit": 0}}),
    ],
)
def test_what_works_is_ready(kind: str, said: dict[str, Any]) -> None:
    assert str(judge(kind, said, NOW)) == "ready"


def test_metrics_are_prometheus_text_with_the_figures_of_the_status() -> None:
    text = exposition(
        {
            "sink": SINK,
            "stream-1": {"at": NOW, "assigned": 2, "published": {"score": 5}, "last_progress": NOW - 4},
            "clickhouse": {},
        },
        NOW,
    ).decode()
    found = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }
    sink = ("process", "sink")
    assert found["gigawatch_ready", (sink,)] == 1.0
    assert found["gigawatch_sink_rows_total", (sink, ("table", "gpu"))] == 1000
    assert found["gigawatch_sink_commit_age_seconds", (sink,)] == 2.5
    assert found["gigawatch_sink_freshness_seconds", (sink, ("quantile", "0.99"))] == 2.0
    assert found["gigawatch_stream_progress_age_seconds", (("process", "stream-1"),)] == 4.0
    assert found["gigawatch_stream_published_rows_total", (("process", "stream-1"), ("stream", "score"))] == 5
    assert not any("producer" in name for name, _ in found)
    assert all(figure.help.endswith(".") for figures in FIGURES.values() for figure in figures)


async def _get(url: str, token: str = "") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


@pytest.mark.service
async def test_a_process_serves_its_metrics_and_health() -> None:
    said = dict(SINK, at=NOW)
    process = await Status(
        "sink", None, lambda: {k: v for k, v in said.items() if k not in ("at", "last_commit")}, "127.0.0.1:0"
    ).begin()
    keeping = asyncio.create_task(process.keep(0.01))
    url = process.said()["metrics_at"]
    assert (await _get(f"{url}/live"))[0] == 200
    assert (await _get(f"{url}/ready")) == (200, "yes\n")
    assert 'gigawatch_sink_rows_total{process="sink",table="gpu"} 1000.0' in (await _get(f"{url}/metrics"))[1]
    said["trouble"] = "gpu: memory limit exceeded"
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
    [("9100", "it is HOST:PORT"), ("0.0.0.0:0", "set GIGAWATCH_METRICS_TOKEN"), ("127.0.0.1:x", "HOST:PORT")],
)
async def test_where_it_must_not_listen(listen: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIGAWATCH_METRICS_TOKEN", raising=False)
    with pytest.raises(SecurityError, match=complaint):
        await status.serve(listen, dict)


@pytest.mark.service
async def test_elsewhere_than_on_loopback_a_token_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIGAWATCH_METRICS_TOKEN", "open sesame")
    runner = await status.serve("0.0.0.0:0", lambda: {"sink": {**SINK}})
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    assert (await _get(f"{url}/metrics"))[0] == 401
    assert (await _get(f"{url}/metrics", "open"))[0] == 401
    assert (await _get(f"{url}/metrics", "open sesame"))[0] == 200
    await runner.cleanup()
    runner = await status.serve("127.0.0.1:0", dict)
    taken = runner.addresses[0][1]
    with pytest.raises(SecurityError, match="cannot listen there"):
        await status.serve(f"127.0.0.1:{taken}", dict)
    await runner.cleanup()
