"""Kafka: client settings that the embedded and a real broker share, the log's identity, and its topics."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from pipeline import settings, tls
from schemas import topics
from schemas.errors import GigawatchError, first_line
from schemas.log_record import LogRecord


class BrokerError(GigawatchError, RuntimeError):
    """The Kafka broker cannot be used. States what was tried and what to do."""


MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
#: Low, so that a worker's first join takes seconds (a group waits for its rebalance time-out on the embedded broker).
SESSION_TIMEOUT_MS = 6_000
REBALANCE_TIMEOUT_MS = 3_000
HEARTBEAT_MS = 1_000
FETCH_BYTES = 4 << 20


def kafka_options(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Returns `security_protocol` and its TLS and SASL settings, for every aiokafka client. Raises SettingsError."""
    get = {s.name: settings.value("kafka", s.name, env) for s in settings.SETTINGS if s.service == "kafka"}
    encrypted, sasl = bool(get["ca"] or get["cert"]), bool(get["user"])
    options: dict[str, Any] = {"security_protocol": ("SASL_" if sasl else "") + ("SSL" if encrypted else "PLAINTEXT")}
    if encrypted:
        options["ssl_context"] = tls.context("kafka", get["ca"], get["cert"], get["key"], get["key_password"])
    if sasl:
        mechanism = get["mechanism"] or MECHANISMS[0]
        if mechanism not in MECHANISMS:
            raise settings.SettingsError(f"Kafka SASL mechanism {mechanism!r}: it is one of {', '.join(MECHANISMS)}")
        if not get["password"]:
            raise settings.SettingsError(
                f"Kafka user {get['user']} has no password: set GIGAWATCH_KAFKA_PASSWORD or "
                "GIGAWATCH_KAFKA_PASSWORD_FILE"
            )
        options |= {
            "sasl_mechanism": mechanism,
            "sasl_plain_username": get["user"],
            "sasl_plain_password": get["password"],
        }
    return options


def client_options(bootstrap: str) -> dict[str, Any]:
    """Returns the broker's address, TLS and SASL settings of every aiokafka client. Raises BrokerError."""
    try:
        return {"bootstrap_servers": bootstrap, **kafka_options()}
    except settings.SettingsError as err:
        raise BrokerError(str(err)) from err


def consumer_options(bootstrap: str, group: str | None) -> dict[str, Any]:
    """Returns the settings of every plain aiokafka consumer: explicit commits only, from the earliest record."""
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


class _LastMessage(logging.Handler):
    """Keeps the newest log message."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


@contextmanager
def explained(bootstrap: str) -> Iterator[None]:
    """While a client starts: aiokafka raises that it cannot connect and logs the cause; a BrokerError states both."""
    logger, last = logging.getLogger("aiokafka"), _LastMessage()
    propagated = logger.propagate
    logger.addHandler(last)
    logger.propagate = False
    try:
        yield
    except (KafkaError, OSError) as err:
        hint = (
            "; if it requires TLS or a user, see docs/security.md"
            if client_options(bootstrap)["security_protocol"] == "PLAINTEXT"
            else ""
        )
        cause = last.text or first_line(err)
        raise BrokerError(
            f"no Kafka broker answers at {bootstrap}: {cause}. Start one, or use --broker embedded{hint}"
        ) from err
    finally:
        logger.removeHandler(last)
        logger.propagate = propagated


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yields a started admin client; raises BrokerError when no broker answers."""
    client = AIOKafkaAdminClient(**client_options(bootstrap), request_timeout_ms=10_000)
    try:
        with explained(bootstrap):
            await client.start()
        yield client
    finally:
        await client.close()


async def log_id(bootstrap: str) -> str:
    """Returns the cluster's id: offsets are valid only together with it."""
    async with admin(bootstrap) as client:
        return str((await client.describe_cluster())["cluster_id"])


async def read_whole(bootstrap: str, topic: str) -> dict[int, list[LogRecord]]:
    """Returns, by partition, the records that a topic holds now, in log order; raises BrokerError when no broker
    answers.
    """
    consumer = AIOKafkaConsumer(**consumer_options(bootstrap, None))
    try:
        with explained(bootstrap):
            await consumer.start()
        places = [tp for tp in await partitions(bootstrap) if tp.topic == topic]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found: dict[int, list[LogRecord]] = {tp.partition: [] for tp in places}
        while not all([await consumer.position(tp) >= end for tp, end in ends.items()]):
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                found[tp.partition] += [LogRecord.of(r) for r in records if r.offset < ends[tp]]
        return found
    finally:
        await consumer.stop()


async def partitions(bootstrap: str) -> list[TopicPartition]:
    """Returns every partition of our topics; raises BrokerError when the broker does not list them all."""
    async with admin(bootstrap) as client:
        described = await client.describe_topics(list(topics.TOPICS))
    found = [TopicPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"]]
    missing = set(topics.TOPICS) - {tp.topic for tp in found}
    if missing:
        raise BrokerError(f"the broker at {bootstrap} lists no partitions of {', '.join(sorted(missing))}")
    return found


def _topic_config(topic: topics.Topic, retention_ms: int | None) -> dict[str, str]:
    keep_ms = -1 if topic.keep_h < 0 else topic.keep_h * 3_600_000 or retention_ms
    return {"max.message.bytes": str(32 << 20)} | ({"retention.ms": str(keep_ms)} if keep_ms else {})


async def ensure_topics(
    bootstrap: str, partitions: int = topics.PARTITIONS, replication: int = 1, retention_ms: int | None = None
) -> list[str]:
    """Creates missing topics; returns the names of those it created."""
    async with admin(bootstrap) as client:
        have = set(await client.list_topics())
        new = [
            NewTopic(t.name, t.partitions or partitions, replication, topic_configs=_topic_config(t, retention_ms))
            for t in topics.TOPICS.values()
            if t.name not in have
        ]
        if new:
            response = await client.create_topics(new)
            for name, code, *message in response.topic_errors:
                if code not in (0, 36):  # 36: another process created it first
                    raise BrokerError(f"topic {name}: {for_code(code).__name__} {message}")
            for _ in range(50):  # a leader per partition takes a moment
                if {t.name for t in topics.TOPICS.values()} <= set(await client.list_topics()):
                    break
                await asyncio.sleep(0.1)
        return [t.name for t in new]
