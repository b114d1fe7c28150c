"""Brings a ClickHouse to the catalogue's shape: creates what is missing, adds columns, never drops or changes any.

A store of an older version is brought along once: `store_version` holds what was done.
"""

from __future__ import annotations

from dataclasses import replace

from clickhouse_connect.driver.client import Client

from pipeline.store.client import StoreError
from pipeline.store.columns import Column
from pipeline.store.model_views import MODEL_VIEWS
from pipeline.store.old_jobs import allocations
from pipeline.store.table import HEURISTICS, Table
from pipeline.store.tables import IDENTITIES, TABLES
from pipeline.store.views import device_view, raw_columns, raw_view
from schemas.catalogue import KINDS
from schemas.tables import DATABASE, STORE_VERSION

#: Table or view -> its columns, each with its type and comment.
_Found = dict[str, dict[str, tuple[str, str]]]


def migrate(client: Client, cluster: str = "") -> list[str]:
    """Applies what is needed and returns it, a line each.

    Raises StoreError when a column has another type than ours, or a newer version made the store.
    """
    on = f" ON CLUSTER '{cluster}'" if cluster else ""
    done: list[str] = []
    if not client.query(
        "SELECT 1 FROM system.databases WHERE name = {db:String}", parameters={"db": DATABASE}
    ).result_rows:
        client.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE}{on}")  # a writer may not, and need not
    have = _found(client)
    version = _version(client, have)
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
        shown = {"who", *(c.name for c in table.columns)}
        if table.frames and (added or version < STORE_VERSION or set(have.get(table.name, ())) != shown):
            client.command(device_view(table, cluster))
            done.append(f"view {table.name}")
    changed = {line.partition(" ")[2].partition(".")[0] for line in done}
    for kind in KINDS:
        if kind in changed or set(have.get(f"{kind}_raw", ())) != set(raw_columns(kind)):
            client.command(raw_view(kind, cluster))
            done.append(f"view {kind}_raw")
    for name, (columns, made) in MODEL_VIEWS.items():
        if version < STORE_VERSION or set(have.get(name, ())) != set(columns):
            client.command(made(cluster))
            done.append(f"view {name}")
    if version < STORE_VERSION:
        if "job" in have.get(IDENTITIES.name, ()):
            client.command(allocations(cluster))
            done.append("jobs of version 1 are allocations")
        client.command(f"INSERT INTO {DATABASE}.store_version (version, ts) VALUES ({STORE_VERSION}, now64(3))")
        done.append(f"store version {STORE_VERSION}")
    return done


def _found(client: Client) -> _Found:
    rows = client.query(
        "SELECT table, name, type, comment FROM system.columns WHERE database = {db:String}",
        parameters={"db": DATABASE},
    ).result_rows
    have: _Found = {}
    for table, name, kind, comment in rows:
        have.setdefault(str(table), {})[str(name)] = str(kind), str(comment)
    return have


def _version(client: Client, have: _Found) -> int:
    """The version that the store has been brought to; 1 before there were any numbers, and where there is no store."""
    version = 1
    if "store_version" in have:
        version = max(1, int(client.query(f"SELECT max(version) FROM {DATABASE}.store_version").result_rows[0][0]))
    if version > STORE_VERSION:
        raise StoreError(
            f"the store is of version {version}, this Gigawatch knows version {STORE_VERSION}: a newer one wrote it. "
            "Install that one, or name another store"
        )
    return version


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
