"""Brings a ClickHouse to the catalogue's shape: creates what is missing, adds columns, never drops or changes any."""

from __future__ import annotations

from clickhouse_connect.driver.client import Client

from pipeline.store.client import StoreError
from pipeline.store.tables import DATABASE, HEURISTICS, TABLES, Table, raw_view
from schemas.catalogue import KINDS


def migrate(client: Client, cluster: str = "") -> list[str]:
    """Applies what is needed and returns it, a line each.

    Raises StoreError when a column has another type than ours.
    """
    on = f" ON CLUSTER '{cluster}'" if cluster else ""
    done: list[str] = []
    if not client.query(
        "SELECT 1 FROM system.databases WHERE name = {db:String}", parameters={"db": DATABASE}
    ).result_rows:
        client.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE}{on}")  # a writer may not, and need not
    rows = client.query(
        "SELECT table, name, type, comment FROM system.columns WHERE database = {db:String}",
        parameters={"db": DATABASE},
    ).result_rows
    have: dict[str, dict[str, str]] = {}
    for table, name, kind, comment in rows:
        have.setdefault(str(table), {})[str(name)] = f"{kind} COMMENT '{comment}'" if comment else str(kind)
    known = [
        str(row[0])
        for row in client.query(
            "SELECT name FROM system.merge_tree_settings WHERE name IN {names:Array(String)}",
            parameters={"names": list(HEURISTICS)},
        ).result_rows
    ]
    for table in TABLES.values():
        local = f"{table.stored_as}_local" if cluster else table.stored_as
        if local not in have:
            if table.frames and table.name in have:
                raise StoreError(
                    f"{DATABASE}.{table.name} is of a version that stored a row a device; this one stores a "
                    "row a frame. Migrations only "
                    f"add: keep the old rows elsewhere (RENAME TABLE {DATABASE}.{table.name} TO ...) and start again"
                )
            for statement in table.ddl(cluster, known):
                client.command(statement)
            done.append(f"created {table.name}")
            continue
        added = [
            _add(client, table, name, kind, local, on)
            for name, kind in table.stored
            if _lacks(have[local], table, name, kind)
        ]
        done += added
        if table.frames and (added or set(have.get(table.name, ())) != {"who", *dict(table.columns)}):
            client.command(table.view(cluster))
            done.append(f"view {table.name}")
    changed = {line.partition(" ")[2].partition(".")[0] for line in done}
    for kind in KINDS:
        if f"{kind}_raw" not in have or kind in changed:
            client.command(raw_view(kind, cluster))
            done.append(f"view {kind}_raw")
    return done


def _lacks(have: dict[str, str], table: Table, name: str, kind: str) -> bool:
    found = have.get(name)
    wanted = kind.split(" CODEC", maxsplit=1)[0]
    if found is not None and (_bare(found) != _bare(kind) or (" COMMENT " in wanted and found != wanted)):
        raise StoreError(
            f"{DATABASE}.{table.stored_as}.{name} is {found}, this version wants {wanted}. Migrations only add: "
            "store the old table elsewhere (RENAME TABLE) and start again"
        )
    return found is None


def _add(client: Client, table: Table, name: str, kind: str, local: str, on: str) -> str:
    for target in dict.fromkeys((local, table.stored_as)):
        plain = kind if target == local else kind.split(" CODEC", maxsplit=1)[0]
        client.command(f"ALTER TABLE {DATABASE}.{target}{on} ADD COLUMN IF NOT EXISTS `{name}` {plain}")
    return f"added {table.name}.{name}"


def _bare(kind: str) -> str:
    """A column's type without codec, default or white space."""
    for word in (" CODEC", " COMMENT", " DEFAULT", " ALIAS", " MATERIALIZED"):
        kind = kind.split(word, maxsplit=1)[0]
    return kind.replace(" ", "")
