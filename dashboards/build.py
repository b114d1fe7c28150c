"""Builds boards and alert rules into the tree: Grafana's JSON and YAML, and their tables in the docs."""

from __future__ import annotations

import importlib
import json
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import boards
from dashboards.alerts import provision
from dashboards.alerts.rules import all_rules
from dashboards.board import Board, uid
from schemas.errors import GigawatchError

FOLDER = Path(__file__).parent / "json"
ALERTS = Path(__file__).parent / "provisioning" / "alerting" / "rules.yaml"
DOCS = Path(__file__).parent.parent / "docs"
#: What stands around a generated table of a page.
_BEGIN, _END = "<!-- {name}: written by `gigawatch dashboards build` -->", "<!-- end of {name} -->"


class BuildError(GigawatchError):
    """A board or a page that cannot be built: which file, what is wrong, what to do."""


def discovered() -> list[Board]:
    """Returns the boards of every module in dashboards/boards, in their order; raises BuildError for a module without a
    board and for two boards of one name.
    """
    found: dict[str, tuple[Board, str]] = {}
    for module in pkgutil.iter_modules(boards.__path__):
        make = getattr(importlib.import_module(f"{boards.__name__}.{module.name}"), "board", None)
        made = make() if callable(make) else None
        if not isinstance(made, Board):
            raise BuildError(f"dashboards/boards/{module.name}.py: it has no function board() that returns a Board")
        if made.name in found:
            raise BuildError(f"dashboards/boards: {found[made.name][1]}.py and {module.name}.py are both {made.name!r}")
        found[made.name] = made, module.name
    return sorted((made for made, _ in found.values()), key=lambda made: (made.order, made.name))


def built() -> dict[str, str]:
    """Returns file name -> JSON text of every dashboard."""
    out = {}
    for board in discovered():
        body = json.loads(json.dumps(board.built().build(), cls=JSONEncoder))
        for number, panel in enumerate(body["panels"], 1):
            panel["id"] = number
        for variable in body["templating"].get("list", []):
            if variable["type"] == "query":  # the plugin shows and runs `definition`, which the SDK's builder lacks
                variable["definition"] = variable["query"]["rawSql"]
        out[f"{board.name}.json"] = json.dumps(body, indent=2, sort_keys=True) + "\n"
    return out


def pages() -> dict[Path, str]:
    """Returns path -> text of the pages with a generated table; none where the docs are not installed."""
    tables = {DOCS / "dashboards.md": ("boards", _boards()), DOCS / "runbooks" / "README.md": ("alerts", _alerts())}
    return {path: _replaced(path, *table) for path, table in tables.items() if path.exists()}


def _boards() -> str:
    rows = []
    for board in discovered():
        pictures = ", ".join(f"[{text}](pictures/{file})" for text, file in board.pictures)
        rows.append(f"| {board.shown_title} | {board.question} | {pictures} |")
    return "\n".join(["| board | question | picture |", "|---|---|---|", *rows])


def _alerts() -> str:
    rows = [f"| [{rule.title}]({rule.name}.md) | {rule.severity} | {rule.fires} |" for rule in all_rules()]
    return "\n".join(["| alert | severity | fires when |", "|---|---|---|", *rows])


def _replaced(path: Path, name: str, table: str) -> str:
    begin, end = _BEGIN.format(name=name), _END.format(name=name)
    before, found, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise BuildError(f"{path.name}: the lines {begin!r} and {end!r} are missing; the table goes between them")
    return f"{before}{begin}\n{table}\n{end}{after}"


def write(check: bool = False) -> list[str]:
    """Writes what differs (or only names it, with `check`); returns the file names. JSON of a board that is gone
    is deleted, by its uid; a foreign board's is left alone.
    """
    FOLDER.mkdir(exist_ok=True)
    wanted = {FOLDER / name: text for name, text in built().items()} | {ALERTS: provision.provisioned()} | pages()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    others = [path for path in sorted(FOLDER.glob("*.json")) if path not in wanted]
    gone = [path for path in others if json.loads(path.read_text())["uid"].startswith(uid(""))]
    if not check:
        for path in stale:
            path.write_text(wanted[path])
        for path in gone:
            path.unlink()
    return [path.name for path in (*stale, *gone)]


@cache
def _order(_: tuple[str, ...]) -> list[str]:
    """The boards' uids in order, made once for the modules of these names."""
    return [board.uid for board in discovered()]


def load() -> dict[str, dict[str, Any]]:
    """Returns the dashboards in the tree, parsed, by uid: the boards of dashboards/boards in their order, then others
    by file name.
    """
    found = {body["uid"]: body for path in sorted(FOLDER.glob("*.json")) if (body := json.loads(path.read_text()))}
    known = [name for name in _order(tuple(m.name for m in pkgutil.iter_modules(boards.__path__))) if name in found]
    return {name: found[name] for name in (*known, *(name for name in found if name not in known))}
