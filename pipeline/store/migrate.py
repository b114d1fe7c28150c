"""Brings a ClickHouse to the catalogue's shape: creates what is missing, adds columns, never drops or changes any."""

from __future__ import annotations

from clickhouse_connect.driver.client import Client

from pipeline.store.client import StoreError
from pipeline.store.tables import DATABASE, TABLES


def migrate(client: Client, cluster: str = "") -> list[str]:
    """Applies what is needed and returns it, a line each. Raises StoreError when a column has another type than ours."""
    on = f" ON CLUSTER '{cluster}'" if cluster else ""
    done: list[str] = []
    client.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE}{on}")
    rows = client.query("SELECT table, name, type FROM system.columns WHERE database = {db:String}", parameters={"db": DATABASE}).result_rows
    have: dict[str, dict[str, str]] = {}
    for table, name, kind in rows:
        have.setdefault(str(table), {})[str(name)] = str(kind)
    for table in TABLES.values():
        local = f"{table.name}_local" if cluster else table.name
        if local not in have:
            for statement in table.ddl(cluster):
                client.command(statement)
            done.append(f"created {table.name}")
            continue
        for name, kind in table.columns:
            found = have[local].get(name)
            if found is None:
                for target in dict.fromkeys((local, table.name)):
                    plain = kind if target == local else kind.split(" CODEC")[0]
                    client.command(f"ALTER TABLE {DATABASE}.{target}{on} ADD COLUMN IF NOT EXISTS `{name}` {plain}")
                done.append(f"added {table.name}.{name}")
            elif _bare(found) != _bare(kind):
                raise StoreError(f"{DATABASE}.{table.name}.{name} is {found}, this version wants {_bare(kind)}. Migrations only add: "
                                 "store the old table elsewhere (RENAME TABLE) and start again")
    return done


def _bare(kind: str) -> str:
    """A column's type without codec, default or white space."""
    for word in (" CODEC", " DEFAULT", " ALIAS", " MATERIALIZED"):
        kind = kind.split(word, maxsplit=1)[0]
    return kind.replace(" ", "")
