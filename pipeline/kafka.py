"""Kafka admin: which log this is, its topics, and client settings that the embedded and a real broker share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from pipeline import settings
from schemas import topics


class BrokerError(RuntimeError):
    """The Kafka broker cannot be used: says what was tried and what to do."""


#: Low, so that a worker's first join takes seconds (a group waits for its rebalance time-out on the embedded broker).
SESSION_TIMEOUT_MS = 6_000
REBALANCE_TIMEOUT_MS = 3_000
HEARTBEAT_MS = 1_000
FETCH_BYTES = 4 << 20


def client_options(bootstrap: str) -> dict[str, Any]:
    """Where the broker is, whom we trust and who we are: for every aiokafka client. Raises BrokerError."""
    try:
        return {"bootstrap_servers": bootstrap, **settings.kafka_options()}
    except settings.SecurityError as err:
        raise BrokerError(str(err)) from err


def consumer_options(bootstrap: str, group: str | None) -> dict[str, Any]:
    """Settings of every plain aiokafka consumer here: explicit commits only, from the earliest record."""
    return {
        **client_options(bootstrap),
        "group_id": group,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "session_timeout_ms": SESSION_TIMEOUT_MS,
        "rebalance_timeout_ms": REBALANCE_TIMEOUT_MS,
        "heartbeat_interval_ms": HEARTBEAT_MS,
        "max_poll_interval_ms": 300_000,
        "fetch_max_bytes": 4 * FETCH_BYTES,
        "max_partition_fetch_bytes": FETCH_BYTES,
    }


class _Heard(logging.Handler):
    """Keeps the last thing that was said."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


@contextmanager
def explained(bootstrap: str) -> Iterator[None]:
    """While a client starts: aiokafka raises that it cannot connect and logs why; a BrokerError says both."""
    said, heard, before = logging.getLogger("aiokafka"), _Heard(), logging.getLogger("aiokafka").propagate
    said.addHandler(heard)
    said.propagate = False
    try:
        yield
    except (KafkaError, OSError) as err:
        hint = (
            "; if it wants TLS or a user, see docs/security.md"
            if client_options(bootstrap)["security_protocol"] == "PLAINTEXT"
            else ""
        )
        why = heard.text or str(err) or type(err).__name__
        raise BrokerError(
            f"no Kafka broker answers at {bootstrap}: {why}. Start one, or use --broker embedded{hint}"
        ) from err
    finally:
        said.removeHandler(heard)
        said.propagate = before


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client; raises BrokerError when there is no broker."""
    client = AIOKafkaAdminClient(**client_options(bootstrap), request_timeout_ms=10_000)
    try:
        with explained(bootstrap):
            await client.start()
        yield client
    finally:
        await client.close()


async def log_id(bootstrap: str) -> str:
    """The cluster's id: offsets mean something only together with it."""
    async with admin(bootstrap) as client:
        return str((await client.describe_cluster())["cluster_id"])


async def partitions(bootstrap: str) -> list[TopicPartition]:
    """Every partition of our topics; raises BrokerError when the broker does not list them all."""
    async with admin(bootstrap) as client:
        described = await client.describe_topics(list(topics.TOPICS))
    found = [TopicPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"]]
    missing = set(topics.TOPICS) - {tp.topic for tp in found}
    if missing:
        raise BrokerError(f"the broker at {bootstrap} lists no partitions of {', '.join(sorted(missing))}")
    return found


async def ensure_topics(
    bootstrap: str, partitions: int = topics.PARTITIONS, replication: int = 1, retention_ms: int | None = None
) -> list[str]:
    """Creates the topics that are missing; returns their names."""
    async with admin(bootstrap) as client:
        have = set(await client.list_topics())
        config = {"retention.ms": str(retention_ms)} if retention_ms else {}
        limit = {"max.message.bytes": str(32 << 20)}
        new = [
            NewTopic(t.name, t.partitions or partitions, replication, topic_configs={**config, **limit})
            for t in topics.TOPICS.values()
            if t.name not in have
        ]
        if new:
            response = await client.create_topics(new)
            for name, code, *message in response.topic_errors:
                if code not in (0, 36):  # 36: someone else was faster
                    raise BrokerError(f"topic {name}: {for_code(code).__name__} {message}")
            for _ in range(50):  # a leader per partition takes a moment
                if {t.name for t in topics.TOPICS.values()} <= set(await client.list_topics()):
                    break
                await asyncio.sleep(0.1)
        return [t.name for t in new]
