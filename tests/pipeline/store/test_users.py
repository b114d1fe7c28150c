"""Users with no more rights than they need: the statements are ClickHouse's own grammar, and carry no password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client

from pipeline.cli import gigawatch
from pipeline.store import users
from pipeline.store.client import StoreError, open_folder

PASSWORDS = {user.name: f"secret of {user.name}" for user in users.USERS}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "clickhouse").mkdir()
    made = open_folder(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("cluster", ["", "prod"])
def test_the_engine_parses_every_statement_and_none_has_a_password(client: Client, cluster: str) -> None:
    made = list(users.statements(PASSWORDS, cluster))
    assert len(made) == 4 * len(users.USERS)
    for statement in made:
        assert client.command(f"EXPLAIN AST {statement}")
        assert "secret" not in statement
        assert ("ON CLUSTER 'prod'" in statement) == bool(cluster)


def test_nobody_but_the_writer_may_write_and_nobody_may_drop() -> None:
    grants = {user.name: set(user.grants) for user in users.USERS}
    assert grants == {
        "gigawatch_writer": {"SELECT", "INSERT"},
        "gigawatch_reader": {"SELECT"},
        "gigawatch_grafana": {"SELECT"},
    }
    assert all(
        "readonly = 2" in user.settings and "max_execution_time" in user.settings
        for user in users.USERS
        if user.name != "gigawatch_writer"
    )


def test_a_user_without_a_password_is_not_made() -> None:
    made = list(users.statements({"gigawatch_reader": "x"}))
    assert len(made) == 4
    assert all("gigawatch_reader" in statement for statement in made)


def test_where_there_are_no_users_it_is_said(client: Client) -> None:
    with pytest.raises(StoreError, match="the embedded one has no users"):
        users.make(client, PASSWORDS)


def test_the_command_wants_passwords_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clickhouse").mkdir()
    for who in ("WRITER", "READER", "GRAFANA"):
        monkeypatch.delenv(f"GIGAWATCH_USERS_{who}_PASSWORD", raising=False)
    done = CliRunner().invoke(gigawatch, ["migrate", "--users", "--data-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "GIGAWATCH_USERS_WRITER_PASSWORD" in done.output
