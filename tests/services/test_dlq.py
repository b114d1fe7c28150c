"""Dead letters: kept whole, shown, replayed once the cause is mended, dropped; and a storm of them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from pipeline import kafka
from schemas.codec import encode
from schemas.frame import build
from tests.factories import StartSink, run

pytestmark = pytest.mark.service(40)
DAY_MS = 86_400_000


async def _send(broker: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    for value in values:
        await producer.send_and_wait("telemetry.power", value, partition=0)
    await producer.stop()


def _old(site: str) -> bytes:
    """Three days old: refused with one day allowed, taken with seven."""
    now = int(time.time() * 1000) // 1000 * 1000
    return encode(
        build(
            "power",
            now - 3 * DAY_MS,
            {"site": [site], "rack": ["R1"], "device": ["meter"], "model": ["rack-meter"]},
            {"power_w": np.array([123.0], np.float32)},
        )
    )


def test_a_message_refused_is_kept_and_replayed_when_its_cause_is_mended(
    sink: StartSink, broker: str, clickhouse: str, tmp_path: Path
) -> None:
    where, site = ("--clickhouse", clickhouse), f"dlq-{time.time_ns()}"
    refusing = sink("--max-age", "1")
    garbage = b"\x1b[2Jgarbage " + site.encode()
    asyncio.run(_send(broker, [_old(site), garbage, _old(site + "-2")]))
    refusing.until(lambda: refusing.said("dead_letters") == 3, "three dead letters")
    refusing.until(lambda: refusing.said("rows") == {"dead_letters": 3}, "three letters in the store")

    log_id = asyncio.run(kafka.log_id(broker))
    found = run(
        "query",
        f"SELECT id, reason, topic, bytes FROM dead_letters FINAL WHERE kafka_log = '{log_id}' ORDER BY offset",
        "--format",
        "TSV",
        *where,
    ).stdout.split()
    ids, reasons = found[0::4], found[1::4]
    assert reasons == ["stale", "not-arrow", "stale"]
    listed = run("dlq", "list", "--limit", "1000", *where).stdout
    assert all(f"{i}\t" in listed for i in ids)
    shown = run("dlq", "show", ids[1], *where).stdout
    assert "not-arrow: begins with" in shown
    assert ".[2Jgarbage" in shown
    assert "\x1b" not in shown
    raw = run("dlq", "show", ids[1], "--raw", *where).stdout
    assert raw.encode() == garbage
    assert "no dead letter 'nosuch'" in run("dlq", "show", "nosuch", *where, ok=False).stderr
    assert "which ones?" in run("dlq", "replay", *where, ok=False).stderr

    # nothing is mended yet: everything stays, and says why
    stays = run("dlq", "replay", *ids, "--broker", broker, *where, ok=False).stdout
    assert "sent 0 again, 3 stay" in stays
    assert f"{ids[0]}  would be refused again: stale: 3.0 days old" in stays
    assert "garbage" not in stays

    mended = sink("--max-age", "7")
    assert "would send 2 again, 1 stay" in run("dlq", "replay", *ids, "--max-age", "7", "--dry-run", *where).stdout
    assert "sent 1 again, 0 stay" in run("dlq", "replay", ids[0], "--max-age", "7", "--broker", broker, *where).stdout
    mended.until(lambda: mended.said("rows") == {"power": 1}, "the replayed row")
    stored = run(
        "query", f"SELECT site, power_w FROM power WHERE site LIKE '{site}%'", "--format", "TSV", *where
    ).stdout.split()
    assert stored == [site, "123"]

    assert "dropped 1" in run("dlq", "drop", ids[2], *where).stdout
    state = [line.split("\t")[7] for line in run("dlq", "list", *ids, "--all", *where).stdout.splitlines()[1:]]
    assert sorted(state) == ["dropped", "kept", "replayed"]
    assert [line.split("\t")[0] for line in run("dlq", "list", *ids, *where).stdout.splitlines()[1:]] == [ids[1]]
    assert "sent 0 again, 0 stay" in run("dlq", "replay", ids[0], ids[2], "--broker", broker, *where).stdout, (
        "what was dealt with is not sent twice"
    )


def test_a_storm_stops_the_reading_and_loses_nothing(sink: StartSink, broker: str, clickhouse: str) -> None:
    stormy = sink("--dead-most", "50")
    asyncio.run(_send(broker, [b"rubbish"] * 60))
    stormy.until(lambda: "dead-letter storm" in str(stormy.said("trouble")), "the storm")
    site = f"after-{time.time_ns()}"
    now = int(time.time() * 1000)
    good = encode(
        build(
            "power",
            now,
            {"site": [site], "rack": ["R1"], "device": ["meter"], "model": ["rack-meter"]},
            {"power_w": np.array([1.0], np.float32)},
        )
    )
    asyncio.run(_send(broker, [good]))
    sent = time.time()
    stormy.until(
        lambda: float(str(stormy.said("at"))) > sent + 1, "what it says a second later: it would have read on by then"
    )
    assert stormy.said("received")["telemetry.power"] <= 60, "the good one waits in the log"
    again = sink("--dead-most", "0")  # someone had a look, and lets it read on
    again.until(lambda: (again.said("rows") or {}).get("power") == 1, "what came after the storm")
    log_id = asyncio.run(kafka.log_id(broker))
    again.until(
        lambda: (
            run(
                "query",
                f"SELECT uniqExact(id) FROM dead_letters WHERE kafka_log = '{log_id}'",
                "--format",
                "TSV",
                "--clickhouse",
                clickhouse,
            ).stdout.strip()
            == "60"
        ),
        "sixty letters kept, each once",
    )
