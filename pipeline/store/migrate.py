"""Brings a ClickHouse to the catalogue's shape: creates what is missing, adds columns, never drops or changes any."""

from __future__ import annotations

from dataclasses import replace

from clickhouse_connect.driver.client import Client

from pipeline.store.client import StoreError
from pipeline.store.columns import Column
from pipeline.store.table import HEURISTICS, Table
from pipeline.store.tables import TABLES
from pipeline.store.views import device_view, raw_view
from schemas.catalogue import KINDS
from schemas.tables import DATABASE


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
    have: dict[str, dict[str, tuple[str, str]]] = {}
    for table, name, kind, comment in rows:
        have.setdefault(str(table), {})[str(name)] = str(kind), str(comment)
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
            if table.frames:
                client.command(device_view(table, cluster))
            done.append(f"created {table.name}")
            continue
        added = [
            _add(client, table, column, local, on) for column in table.stored if _lacks(have[local], table, column)
        ]
        done += added
        if table.frames and (added or set(have.get(table.name, ())) != {"who", *(c.name for c in table.columns)}):
            client.command(device_view(table, cluster))
            done.append(f"view {table.name}")
    changed = {line.partition(" ")[2].partition(".")[0] for line in done}
    for kind in KINDS:
        if f"{kind}_raw" not in have or kind in changed:
            client.command(raw_view(kind, cluster))
            done.append(f"view {kind}_raw")
    return done


def _lacks(have: dict[str, tuple[str, str]], table: Table, column: Column) -> bool:
    """Whether the column is missing. Raises StoreError when it has another type, or holds other multiples."""
    found = have.get(column.name)
    if found is None:
        return True
    kind, comment = found
    if kind.replace(" ", "") != column.full_type.replace(" ", "") or (column.comment and comment != column.comment):
        raise StoreError(
            f"{DATABASE}.{table.stored_as}.{column.name} is {kind} '{comment}', this version wants "
            f"{column.full_type} '{column.comment}'. Migrations only add: store the old table elsewhere "
            "(RENAME TABLE) and start again"
        )
    return False


def _add(client: Client, table: Table, column: Column, local: str, on: str) -> str:
    for target in dict.fromkeys((local, table.stored_as)):
        plain = column.ddl if target == local else replace(column, codec="").ddl
        client.command(f"ALTER TABLE {DATABASE}.{target}{on} ADD COLUMN IF NOT EXISTS `{column.name}` {plain}")
    return f"added {table.name}.{column.name}"
