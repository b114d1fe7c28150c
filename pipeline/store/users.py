"""Least-privilege users of a ClickHouse server: who may write, who may read, and what Grafana may do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.store.client import StoreError
from schemas.errors import first_line
from schemas.tables import DATABASE


@dataclass(frozen=True, slots=True)
class User:
    """`grants` on our database; `settings` bind every query."""

    name: str
    help: str
    grants: tuple[str, ...]
    settings: str


#: `readonly = 2`: nothing but reading, yet settings of a query (such as Grafana's time limits) may be given.
USERS = (
    User(
        "gigawatch_writer",
        "the sink: inserts, and reads what it has stored",
        ("SELECT", "INSERT"),
        "max_memory_usage = 8000000000",
    ),
    User(
        "gigawatch_reader",
        "`gigawatch query`, history, top",
        ("SELECT",),
        "readonly = 2, max_execution_time = 120, max_memory_usage = 8000000000",
    ),
    User(
        "gigawatch_grafana",
        "Grafana's datasource",
        ("SELECT",),
        "readonly = 2, max_execution_time = 30, max_memory_usage = 4000000000, max_result_rows = 1000000, "
        "result_overflow_mode = 'break'",
    ),
)


def statements(passwords: Mapping[str, str], cluster: str = "") -> Iterator[str]:
    """What makes the users that have a password; they carry its SHA-256 only.

    Doing it again changes passwords, grants and settings to these.
    """
    on = f" ON CLUSTER '{cluster}'" if cluster else ""
    for user in USERS:
        password = passwords.get(user.name)
        if not password:
            continue
        secret = hashlib.sha256(password.encode()).hexdigest()
        yield f"CREATE USER IF NOT EXISTS {user.name}{on} IDENTIFIED WITH sha256_hash BY '{secret}'"
        yield (
            f"ALTER USER {user.name}{on} IDENTIFIED WITH sha256_hash BY '{secret}' DEFAULT DATABASE {DATABASE} "
            f"SETTINGS {user.settings}"
        )
        yield f"GRANT{on} {', '.join(user.grants)} ON {DATABASE}.* TO {user.name}"
        yield f"GRANT{on} SELECT ON system.parts TO {user.name}"


def make(client: Client, passwords: Mapping[str, str], cluster: str = "") -> list[str]:
    """Applies them, and names the users made.

    Raises StoreError where the server has no users, or we may not make any.
    """
    try:
        for statement in statements(passwords, cluster):
            client.command(statement)
    except ClickHouseError as err:
        raise StoreError(
            f"users cannot be made here: {first_line(err, 200)}. A ClickHouse server lets a user "
            "with access management do it "
            "(CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT=1 in its image); the embedded one has no users"
        ) from err
    return [f"user {user.name}: {user.help}" for user in USERS if passwords.get(user.name)]
