"""Building the dashboards: the tree is what the code builds, and a board is one file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from dashboards import boards, build, sql
from dashboards.watch.server import Page, QueryTable


def test_the_json_in_the_tree_is_what_the_code_builds() -> None:
    assert build.write(check=True) == [], "run `make docs`"


NEW_BOARD = """
from dashboards import panels
from dashboards.board import Board


def board() -> Board:
    number = panels.stat("One", "SELECT 1 AS value", "none", "The number one.")
    return Board("network", 45, "do packets arrive", "Switches and links.", [number], pictures=[("network", "n.png")])
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is built, and a folder `boards` in which further boards are found."""
    for name in ("boards", "json", "docs/runbooks"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("dashboards.md", "runbooks/README.md"):
        (tmp_path / "docs" / name).write_text((build.DOCS / name).read_text())
    monkeypatch.setattr(boards, "__path__", [*boards.__path__, str(tmp_path / "boards")])
    monkeypatch.setattr(build, "FOLDER", tmp_path / "json")
    monkeypatch.setattr(build, "ALERTS", tmp_path / "rules.yaml")
    monkeypatch.setattr(build, "DOCS", tmp_path / "docs")
    return tmp_path


def forget(name: str) -> None:
    sys.modules.pop(f"dashboards.boards.{name}", None)
    boards.__dict__.pop(name, None)


@pytest.mark.service
async def test_a_board_is_one_file(tree: Path) -> None:
    """Its JSON, its place in the watch page's menu and its row in the docs come from the file alone, and go with it."""
    (tree / "boards" / "network.py").write_text(NEW_BOARD)
    try:
        written = build.write()
        assert "network.json" in written
        assert "dashboards.md" in written
        assert build.write(check=True) == []
        assert (
            "| network | do packets arrive | [network](pictures/n.png) |" in (tree / "docs/dashboards.md").read_text()
        )
        async with TestClient(TestServer(Page(lambda _: QueryTable((), [])).app)) as client:
            menu = [entry["slug"] for entry in await (await client.get("/api/boards")).json()]
        assert menu == ["factory", "rack", "gpu", "power", "network", "cooling", "jobs", "incidents", "health"]
        (tree / "boards" / "network.py").unlink()
        (tree / "json" / "mine.json").write_text('{"uid": "mine", "title": "Mine"}')
        assert sorted(build.write(check=True)) == ["dashboards.md", "network.json"]
        build.write()
        assert not (tree / "json" / "network.json").exists()
        assert list(build.load())[-1] == "mine", "a board from elsewhere stays"
    finally:
        forget("network")


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("empty", "", r"boards/empty\.py: it has no function board\(\)"),
        ("twin", NEW_BOARD.replace('"network", 45', '"rack", 45'), r"rack\.py and twin\.py are both 'rack'"),
    ],
)
def test_a_file_that_is_no_board_is_named(tree: Path, name: str, text: str, complaint: str) -> None:
    (tree / "boards" / f"{name}.py").write_text(text)
    try:
        with pytest.raises(build.BuildError, match=complaint):
            build.write()
    finally:
        forget(name)


def test_a_page_without_its_markers_is_named(tree: Path) -> None:
    (tree / "docs" / "dashboards.md").write_text("# Dashboards\n")
    with pytest.raises(build.BuildError, match=r"dashboards\.md: the lines .* are missing"):
        build.write(check=True)


def test_a_table_that_the_store_lacks_is_no_panel() -> None:
    with pytest.raises(KeyError, match="the store has no table gpu_5s"):
        sql.stored("gpu_5s")
