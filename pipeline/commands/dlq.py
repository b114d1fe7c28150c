"""`gigawatch dlq`: dead-lettered messages; list and show them, replay or drop them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline import kafka
from pipeline.commands import options
from pipeline.commands.runtime import CommandError
from pipeline.sink.recheck import recheck
from pipeline.store import deadletters
from pipeline.store.access import opened
from pipeline.store.client import ClickHouseError, Client, reason
from pipeline.store.deadletters import DROPPED, KEPT, REPLAYED, DeadLetterFilter
from pipeline.terminal.escape import plain
from pipeline.terminal.tables import show as table
from schemas.deadletter import DeadLetter

_AT_ONCE = 200


@click.group()
def dlq() -> None:
    """Dead letters: messages that could not be read or stored, kept whole for 90 days."""


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        [
            click.argument("ids", nargs=-1, metavar="[ID]..."),
            click.option("--reason", default="", help="Only those with this reason."),
            click.option("--topic", default="", help="Only those of this topic."),
            options.clickhouse,
            options.data_dir,
        ]
    ):
        command = option(command)
    return command


def _wanted(ids: Sequence[str], reason: str, topic: str, everything: bool) -> DeadLetterFilter:
    if not (ids or reason or topic or everything):
        raise CommandError("which ones? Give IDs (see `gigawatch dlq list`), --reason, --topic, or --all")
    return DeadLetterFilter(tuple(ids), reason, topic)


@dlq.command(name="list")
@_chosen
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, the newest first.")
@click.option("--all", "everything", is_flag=True, help="Replayed and dropped ones too.")
def list_(
    ids: tuple[str, ...], reason: str, topic: str, clickhouse: str | None, data_dir: Path, limit: int, everything: bool
) -> None:
    """Lists the dead letters that wait for a person, newest first."""
    wanted = DeadLetterFilter(ids, reason, topic, () if everything else (KEPT,))
    with _store(clickhouse, data_dir) as client:
        found, total = deadletters.listed(client, wanted, limit), deadletters.counted(client, wanted)
    table(
        ("id", "sent", "topic", "partition", "offset", "bytes", "reason", "state", "detail"),
        [
            (k.id, f"{k.ts:%Y-%m-%d %H:%M:%S}", k.topic, k.partition, k.offset, k.size, k.reason, k.state, k.detail)
            for k in found
        ],
    )
    if total > len(found):
        click.echo(f"{len(found)} of {total}; --limit shows more", err=True)
    elif not total:
        click.echo("no dead letters (one shows up here within seconds of the message)", err=True)


@dlq.command()
@click.argument("name", metavar="ID")
@options.clickhouse
@options.data_dir
@click.option("--raw", is_flag=True, help="Print the message's bytes and nothing else, for a file or another program.")
def show(name: str, clickhouse: str | None, data_dir: Path, raw: bool) -> None:
    """Shows one: where it came from, why it was refused, whether the sink takes it today, and its first bytes."""
    with _store(clickhouse, data_dir) as client:
        dead = _one(deadletters.with_bytes(client, DeadLetterFilter((name,), states=())), name)
    if raw:
        click.get_binary_stream("stdout").write(dead.value)
        return
    _, today = recheck(dead, int(time.time() * 1000), options.DAY_MS)
    for what, text in (
        ("id", dead.id),
        ("from", f"{dead.topic} partition {dead.partition} offset {dead.offset} of log {dead.log_id}"),
        ("sent", f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(dead.kafka_ms / 1000))} UTC"),
        ("refused", f"{dead.reason}: {dead.detail}"),
        ("today", today or "the sink would take it: `gigawatch dlq replay` sends it again"),
        ("bytes", str(len(dead.value))),
    ):
        click.echo(f"{what:9s}{plain(text)}")
    for at in range(0, min(len(dead.value), 256), 16):
        part = dead.value[at : at + 16]
        click.echo(f"  {at:06x}  {part.hex(' '):47s}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in part)}")
    if len(dead.value) > 256:
        click.echo("  ...     (--raw writes all of it)")


@dlq.command()
@_chosen
@options.broker
@click.option("--all", "everything", is_flag=True, help="All that are neither replayed nor dropped.")
@click.option(
    "--max-age",
    "max_age_days",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Days, as given to `gigawatch sink`.",
)
@click.option("--dry-run", is_flag=True, help="Print what would happen, and send nothing.")
def replay(
    ids: tuple[str, ...],
    reason: str,
    topic: str,
    clickhouse: str | None,
    data_dir: Path,
    broker: str | None,
    everything: bool,
    max_age_days: float,
    dry_run: bool,
) -> None:
    """Sends messages to their topics again, once the cause is fixed.

    A message that would be refused again is not sent, and its reason is printed.
    """
    wanted, sent, refused = _wanted(ids, reason, topic, everything), 0, 0
    bootstrap = "" if dry_run else options.need_broker(broker, data_dir)
    with _store(clickhouse, data_dir, readonly=False) as client:
        names = [k.id for k in deadletters.listed(client, wanted, 1 << 31)]
        for at in range(0, len(names), _AT_ONCE):
            found = deadletters.with_bytes(client, DeadLetterFilter(tuple(names[at : at + _AT_ONCE])), _AT_ONCE)
            good: list[tuple[DeadLetter, bytes]] = []
            for dead in found:
                key, why = recheck(dead, int(time.time() * 1000), int(max_age_days * options.DAY_MS))
                if key is None:
                    refused += 1
                    click.echo(f"{dead.id}  would be refused again: {plain(why)}")
                else:
                    good.append((dead, key))
            if good and not dry_run:
                try:
                    asyncio.run(_send(bootstrap, good))
                except (KafkaError, kafka.BrokerError) as err:
                    raise CommandError(
                        f"{err or type(err).__name__}; {sent} were sent before that, the others are still dead letters"
                    ) from err
                deadletters.mark(client, [dead.id for dead, _ in good], REPLAYED)
            sent += len(good)
    click.echo(f"{'would send' if dry_run else 'sent'} {sent} again, {refused} stay")
    raise SystemExit(0 if sent or not refused else 1)


@dlq.command()
@_chosen
@click.option("--all", "everything", is_flag=True, help="All that are neither replayed nor dropped.")
def drop(
    ids: tuple[str, ...], reason: str, topic: str, clickhouse: str | None, data_dir: Path, everything: bool
) -> None:
    """Takes messages off the list. Their bytes stay in the store for 90 days (`dlq list --all`)."""
    wanted = _wanted(ids, reason, topic, everything)
    with _store(clickhouse, data_dir, readonly=False) as client:
        names = [k.id for k in deadletters.listed(client, wanted, 1 << 31)]
        if names:
            deadletters.mark(client, names, DROPPED)
    click.echo(f"dropped {len(names)}")


async def _send(bootstrap: str, messages: Sequence[tuple[DeadLetter, bytes]]) -> None:
    producer = AIOKafkaProducer(**kafka.client_options(bootstrap), acks="all", max_request_size=32 << 20)
    try:
        with kafka.explained(bootstrap):
            await producer.start()
        for dead, key in messages:
            if key:
                await producer.send_and_wait(dead.topic, dead.value, key)
            else:  # derived rows: the partition they were on, where there still is one
                there = sorted(await producer.partitions_for(dead.topic))
                await producer.send_and_wait(dead.topic, dead.value, partition=there[dead.partition % len(there)])
    finally:
        await producer.stop()


@contextmanager
def _store(url: str | None, data_dir: Path, readonly: bool = True) -> Iterator[Client]:
    """`opened`, with its errors and ClickHouse's as errors for people."""
    try:
        with opened(url, data_dir, readonly) as client:
            yield client
    except ClickHouseError as err:
        raise CommandError(reason(err)) from err


def _one(found: Sequence[DeadLetter], name: str) -> DeadLetter:
    if len(found) == 1:
        return found[0]
    raise CommandError(
        f"no dead letter {name!r}: see `gigawatch dlq list --all`"
        if not found
        else f"{name!r} is the beginning of {len(found)}: {', '.join(dead.id for dead in found[:5])} ..."
    )
