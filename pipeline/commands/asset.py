"""`gigawatch asset`: what is in maintenance or retired, by an operator's word; and the assets with their state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from aiokafka.errors import KafkaError

from pipeline.commands import asset_log, options
from pipeline.commands.asset_log import Declaration
from pipeline.commands.runtime import CommandError
from pipeline.store.access import opened
from pipeline.store.assets import ASSETS_NOW, KNOWN_AS
from pipeline.store.client import ClickHouseError, StoreError, reason
from pipeline.terminal.escape import plain
from pipeline.terminal.moment import moment_ms
from pipeline.terminal.tables import show
from schemas.inventory import STATES
from schemas.tables import DATABASE


@click.group()
def asset() -> None:
    """Assets: racks, nodes and devices that ought to be there; an operator's word on them beats what others declare."""


def _named(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        [
            click.argument("name"),
            click.option("--site", default="", help="Its site. Default: the one site that knows it."),
            options.broker,
            options.clickhouse,
            options.data_dir,
        ]
    ):
        command = option(command)
    return command


_REASON = click.option("--reason", "why", default="", help="Shown wherever the asset's state is.")


@asset.command()
@_named
@click.option(
    "--from", "begin", metavar="TIME", default="", help="When it begins; ISO or a span from now. Default: now."
)
@click.option("--to", "end", metavar="TIME", default="", help="When it ends: 2h, or 2026-11-25T12:00Z. Default: open.")
@_REASON
def maintenance(
    name: str,
    site: str,
    broker: str | None,
    clickhouse: str | None,
    data_dir: Path,
    begin: str,
    end: str,
    why: str,
) -> None:
    """Declares NAME (an asset id, device, node or rack) in maintenance: it is neither silent nor counted."""
    _declare("maintenance", name, site, broker, clickhouse, data_dir, begin, end, why)


@asset.command()
@_named
@click.option("--at", "begin", metavar="TIME", default="", help="From when on; ISO or a span from now. Default: now.")
@_REASON
def retire(
    name: str, site: str, broker: str | None, clickhouse: str | None, data_dir: Path, begin: str, why: str
) -> None:
    """Declares NAME (an asset id, device, node or rack) retired: it is no longer expected."""
    _declare("retired", name, site, broker, clickhouse, data_dir, begin, "", why)


@asset.command()
@_named
def restore(name: str, site: str, broker: str | None, clickhouse: str | None, data_dir: Path) -> None:
    """Ends what an operator has declared of NAME, now and to come: what the inventory states counts again."""
    bootstrap, now_ms = options.need_broker(broker, data_dir), _now_ms()

    async def work() -> list[Declaration]:
        found = await asset_log.declared(bootstrap, name, site)
        ended = [each.ended(now_ms, now_ms) for each in found if each.lasts(now_ms)]
        if len({each.site for each in ended}) > 1:
            sites = ", ".join(sorted({each.site for each in ended}))
            raise CommandError(f"{name} is declared at several sites, {sites}: give --site")
        await asset_log.publish(bootstrap, ended)
        return ended

    ended = _run(work())
    if not ended:
        raise CommandError(
            f"no operator has declared anything of {name!r} that is valid{f' at {site}' if site else ''}: "
            "`gigawatch asset list` shows who has; a file's or NetBox's word is changed there"
        )
    click.echo(f"{plain(name)}: {len(ended)} declaration{'s' * (len(ended) > 1)} ended")


@asset.command(name="list")
@click.argument("place", default="")
@click.option("--state", type=click.Choice(STATES), help="Only assets in this state now.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Rows.")
@options.clickhouse
@options.data_dir
def list_(place: str, state: str | None, limit: int, clickhouse: str | None, data_dir: Path) -> None:
    """Lists the assets with their state now, those out of service first; of a PLACE, name or kind, or all."""
    given = {"place": place, "state": state or "", "limit": limit}
    try:
        with opened(clickhouse, data_dir) as client:
            client.database = DATABASE
            result = client.query(ASSETS_NOW, parameters=given)
    except ClickHouseError as err:
        raise CommandError(reason(err)) from err
    show(result.column_names, result.result_rows)
    if not result.result_rows:
        click.echo("no asset: sources emit what they see, `gigawatch produce inventory` what files declare", err=True)


def _declare(
    state: str,
    name: str,
    site: str,
    broker: str | None,
    clickhouse: str | None,
    data_dir: Path,
    begin: str,
    end: str,
    why: str,
) -> None:
    """Publishes the row of a state, and the end of the declarations that it replaces."""
    now_ms = _now_ms()
    try:
        from_ms = moment_ms(begin, now_ms) if begin else now_ms
        to_ms = moment_ms(end, now_ms) if end else 0
    except ValueError as err:
        raise CommandError(str(err)) from err
    if to_ms and to_ms <= from_ms:
        raise CommandError(f"it would end at {_shown(to_ms)}, before it begins at {_shown(from_ms)}")
    if not name.strip():
        raise CommandError("no name given: an asset id, a device, a node or a rack")
    bootstrap = options.need_broker(broker, data_dir)
    row = _known(name, site, clickhouse, data_dir).within(now_ms, from_ms, to_ms, state, why)

    async def work() -> None:
        before = await asset_log.declared(bootstrap, name, row.site)
        replaced = [each.ended(from_ms, now_ms) for each in before if each.valid_from < from_ms and each.lasts(from_ms)]
        await asset_log.publish(bootstrap, [*replaced, row])

    _run(work())
    span = f" until {_shown(to_ms)}" if to_ms else ""
    what = f"{row.kind} {name}" if row.kind else name
    click.echo(f"{plain(what)} at {plain(row.site)}: {state} from {_shown(from_ms)}{span}")
    if not (row.kind or row.device):
        click.echo("nothing of that name is known yet; it counts as soon as something of that name is heard", err=True)


def _known(name: str, site: str, clickhouse: str | None, data_dir: Path) -> Declaration:
    """Returns who `name` is by the store. Without a store `site` must be given, and nothing else is known of it."""
    try:
        with opened(clickhouse, data_dir) as client:
            client.database = DATABASE
            found = client.query(KNOWN_AS, parameters={"name": name, "site": site}).named_results()
            rows = [dict(row) for row in found]
            sites = {row["site"] for row in client.query("SELECT DISTINCT site FROM identities").named_results()}
    except (ClickHouseError, StoreError) as err:
        if site:
            return Declaration(site=site, asset=name)
        text = reason(err) if isinstance(err, ClickHouseError) else str(err)
        raise CommandError(f"{text}. To declare without a store, give --site") from err
    known = {row["site"] for row in rows}
    if len(known) > 1:
        raise CommandError(f"{name} is known at several sites, {', '.join(sorted(known))}: give --site")
    if rows:
        return Declaration(asset=name, **rows[0])
    if site or len(sites) == 1:
        return Declaration(site=site or sites.pop(), asset=name)
    raise CommandError(f"nothing of the name {name!r} is known: give --site to declare it before it is heard")


def _run(work: Any) -> Any:
    try:
        return asyncio.run(work)
    except KafkaError as err:
        raise CommandError(f"the broker took nothing: {err or type(err).__name__}") from err


def _now_ms() -> int:
    return int(time.time() * 1000)


def _shown(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ms / 1000))
