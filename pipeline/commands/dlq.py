"""`gigawatch dlq`: messages that were set aside; look at them, send them again, or drop them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import click
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline import kafka
from pipeline.commands import options
from pipeline.commands.runtime import CommandError
from pipeline.sink.recheck import recheck
from pipeline.store import deadletters
from pipeline.store.access import opened
from pipeline.store.client import StoreError
from pipeline.store.deadletters import DROPPED, KEPT, REPLAYED, Wanted
from pipeline.terminal.escape import plain
from pipeline.terminal.tables import show as table
from schemas.deadletter import DeadLetter

_AT_ONCE = 200


@click.group()
def dlq() -> None:
    """Dead letters: messages that could not be read or stored. They are kept whole for 90 days."""


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        [
            click.argument("ids", nargs=-1, metavar="[ID]..."),
            click.option("--reason", default="", help="Those with this reason."),
            click.option("--topic", default="", help="Those of this topic."),
            options.clickhouse,
            options.data_dir,
        ]
    ):
        command = option(command)
    return command


def _wanted(ids: Sequence[str], reason: str, topic: str, everything: bool) -> Wanted:
    if not (ids or reason or topic or everything):
        raise CommandError("which ones? Give IDs (see `gigawatch dlq list`), --reason, --topic, or --all")
    return Wanted(tuple(ids), reason, topic)


@dlq.command(name="list")
@_chosen
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="So many, the newest.")
@click.option("--all", "everything", is_flag=True, help="Replayed and dropped ones too.")
def list_(
    ids: tuple[str, ...], reason: str, topic: str, clickhouse: str | None, data_dir: Path, limit: int, everything: bool
) -> None:
    """Lists what was set aside and still waits for a person, newest first."""
    wanted = Wanted(ids, reason, topic, () if everything else (KEPT,))
    try:
        with opened(clickhouse, data_dir) as client:
            found, total = deadletters.listed(client, wanted, limit), deadletters.counted(client, wanted)
    except (StoreError, ClickHouseError) as err:
        raise CommandError(str(err)) from err
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
        click.echo("none waits for you (a message that is set aside shows up here within seconds)", err=True)


@dlq.command()
@click.argument("name", metavar="ID")
@options.clickhouse
@options.data_dir
@click.option("--raw", is_flag=True, help="The message's bytes and nothing else, for a file or another program.")
def show(name: str, clickhouse: str | None, data_dir: Path, raw: bool) -> None:
    """Shows one: where it came from, why it was refused, whether it would be refused today, and how it begins."""
    with _store(clickhouse, data_dir) as client:
        letter = _one(deadletters.letters(client, Wanted((name,), states=())), name)
    if raw:
        click.get_binary_stream("stdout").write(letter.value)
        return
    _, today = recheck(letter, int(time.time() * 1000), options.DAY_MS)
    for what, text in (
        ("id", letter.id),
        ("from", f"{letter.topic} partition {letter.partition} offset {letter.offset} of log {letter.log_id}"),
        ("sent", f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(letter.kafka_ms / 1000))} UTC"),
        ("refused", f"{letter.reason}: {letter.detail}"),
        ("today", today or "it would be taken: `gigawatch dlq replay` sends it again"),
        ("bytes", str(len(letter.value))),
    ):
        click.echo(f"{what:9s}{plain(text)}")
    for at in range(0, min(len(letter.value), 256), 16):
        part = letter.value[at : at + 16]
        click.echo(f"  {at:06x}  {part.hex(' '):47s}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in part)}")
    if len(letter.value) > 256:
        click.echo("  ...     (--raw writes all of it)")


@dlq.command()
@_chosen
@options.broker
@click.option("--all", "everything", is_flag=True, help="All that are kept.")
@click.option(
    "--max-age",
    "max_age_days",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="As given to `gigawatch sink`.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
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
    """Sends messages to their topics again, once the cause is mended.

    What would be refused again stays where it is, with the reason.
    """
    wanted, sent, refused = _wanted(ids, reason, topic, everything), 0, 0
    bootstrap = "" if dry_run else options.need_broker(broker, data_dir)
    with _store(clickhouse, data_dir, readonly=False) as client:
        names = [k.id for k in deadletters.listed(client, wanted, 1 << 31)]
        for at in range(0, len(names), _AT_ONCE):
            found = deadletters.letters(client, Wanted(tuple(names[at : at + _AT_ONCE])), _AT_ONCE)
            good: list[tuple[DeadLetter, bytes]] = []
            for letter in found:
                key, why = recheck(letter, int(time.time() * 1000), int(max_age_days * options.DAY_MS))
                if key is None:
                    refused += 1
                    click.echo(f"{letter.id}  would be refused again: {plain(why)}")
                else:
                    good.append((letter, key))
            if good and not dry_run:
                try:
                    asyncio.run(_send(bootstrap, good))
                except (KafkaError, kafka.BrokerError) as err:
                    raise CommandError(
                        f"{err or type(err).__name__}; {sent} were sent before that, the others are kept"
                    ) from err
                deadletters.mark(client, [letter.id for letter, _ in good], REPLAYED)
            sent += len(good)
    click.echo(f"{'would send' if dry_run else 'sent'} {sent} again, {refused} stay")
    raise SystemExit(0 if sent or not refused else 1)


@dlq.command()
@_chosen
@click.option("--all", "everything", is_flag=True, help="All that are kept.")
def drop(
    ids: tuple[str, ...], reason: str, topic: str, clickhouse: str | None, data_dir: Path, everything: bool
) -> None:
    """Takes messages off the list. Their bytes stay in the store until they are 90 days old (`dlq list --all`)."""
    wanted = _wanted(ids, reason, topic, everything)
    with _store(clickhouse, data_dir, readonly=False) as client:
        names = [k.id for k in deadletters.listed(client, wanted, 1 << 31)]
        if names:
            deadletters.mark(client, names, DROPPED)
    click.echo(f"dropped {len(names)}")


async def _send(bootstrap: str, letters: Sequence[tuple[DeadLetter, bytes]]) -> None:
    producer = AIOKafkaProducer(**kafka.client_options(bootstrap), acks="all", max_request_size=32 << 20)
    try:
        with kafka.explained(bootstrap):
            await producer.start()
        for letter, key in letters:
            if key:
                await producer.send_and_wait(letter.topic, letter.value, key)
            else:  # derived rows: the partition they were on, where there still is one
                there = sorted(await producer.partitions_for(letter.topic))
                await producer.send_and_wait(letter.topic, letter.value, partition=there[letter.partition % len(there)])
    finally:
        await producer.stop()


class _store:  # noqa: N801 - a context manager, read as a verb
    """`opened`, its errors for people."""

    def __init__(self, url: str | None, data_dir: Path, readonly: bool = True) -> None:
        self._opened = opened(url, data_dir, readonly)

    def __enter__(self) -> Any:
        try:
            return self._opened.__enter__()
        except StoreError as err:
            raise CommandError(str(err)) from err

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, err, trace)
        if isinstance(err, ClickHouseError):
            raise CommandError(str(err).split("\n")[0]) from err


def _one(found: Sequence[DeadLetter], name: str) -> DeadLetter:
    if len(found) == 1:
        return found[0]
    raise CommandError(
        f"no dead letter {name!r}: see `gigawatch dlq list --all`"
        if not found
        else f"{name!r} is the beginning of {len(found)}: {', '.join(letter.id for letter in found[:5])} ..."
    )
