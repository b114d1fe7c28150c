"""The wall of the house: imports point one way, libraries stay in their rooms, files fit in a head, names are unique,
and pages and words are those of the field.
"""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

OURS = ("schemas", "producers", "pipeline", "dashboards")
#: Room -> the rooms and files it may import of ours, beside itself. `pipeline.commands` is the composition root.
ALLOWED = {
    "schemas": set[str](),
    "producers": {"schemas"},
    "pipeline.compute": {"schemas"},
    "pipeline.stream": {"schemas", "pipeline.compute", "pipeline.kafka", "pipeline.monitoring"},
    "pipeline.sink": {"schemas", "pipeline.store", "pipeline.kafka", "pipeline.monitoring"},
    "pipeline.store": {"schemas", "pipeline.settings", "pipeline.tls", "pipeline.instance"},
    "pipeline.monitoring": {"schemas", "pipeline.settings"},
    "pipeline.terminal": {"schemas", "pipeline.store", "pipeline.monitoring"},
    "pipeline.embedded": {
        "schemas",
        "pipeline.store",
        "pipeline.kafka",
        "pipeline.monitoring",
        "pipeline.instance",
        "pipeline.settings",
    },
    "pipeline.bench": {"schemas", "pipeline"},
    "pipeline.commands": {"schemas", "producers", "pipeline", "dashboards"},
    "dashboards": {"schemas", "pipeline.compute.rules"},
}
#: Library -> the folders and files that may import it.
LIBRARY_ONLY_IN = {
    "faust": ("pipeline/stream",),
    "clickhouse_connect": (
        "pipeline/store",
        "pipeline/sink",
        "pipeline/embedded",
        "pipeline/bench",
        "pipeline/terminal",
    ),
    "grafana_api": ("dashboards/push.py",),
    "chdb": ("pipeline/embedded/clickhouse",),
    "plotly": ("dashboards/watch",),
    "textual": ("pipeline/terminal/top",),
}
#: Room -> all libraries that it may import.
LIBRARIES_OF = {
    "schemas": {"numpy", "pyarrow", "lz4"},
    "pipeline/compute": {"numpy", "pyarrow"},
}
#: What one would write without us, to compare.
PEERS = "pipeline/bench/peers/"
MOST_LINES, MOST_COLUMNS = 300, 120


def modules() -> list[Path]:
    return [p for top in OURS for p in sorted((ROOT / top).rglob("*.py"))]


def sources() -> list[Path]:
    return [*modules(), *sorted((ROOT / "tests").rglob("*.py"))]


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dotted(path: Path) -> str:
    return place(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(path: Path) -> set[str]:
    """Everything that a file imports, wherever in the file: modules, and names of modules."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def arrows() -> dict[str, set[str]]:
    """File -> the files of ours that it imports, dotted; a package's own folder stands for its `__init__`."""
    known = {dotted(path) for path in modules()}
    found: dict[str, set[str]] = {}
    for path in modules():
        names = imports(path)
        # `from a.b import c` names a.b too, which it reads only when c is no module of its own
        deeper = {name.rpartition(".")[0] for name in names if name in known}
        found[dotted(path)] = {n for n in names if n in known and n not in deeper} - {dotted(path)}
    return found


def circle(graph: dict[str, set[str]]) -> str:
    """The circle in a graph, "" when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as err:
        return " -> ".join(reversed(err.args[1]))
    return ""


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_point_one_way(room: str) -> None:
    allowed = {room, *ALLOWED[room]}
    for path in sorted((ROOT / room.replace(".", "/")).rglob("*.py")):
        for name in imports(path):
            if name.split(".")[0] in OURS:
                fits = any(name == a or name.startswith(a + ".") or a.startswith(name + ".") for a in allowed)
                assert fits, f"{place(path)} imports {name}"


def test_every_room_of_the_pipeline_is_behind_the_wall() -> None:
    rooms = {f"pipeline.{p.parent.name}" for p in (ROOT / "pipeline").glob("*/__init__.py")}
    assert rooms == {room for room in ALLOWED if room.startswith("pipeline.")}


def test_no_circle_of_files() -> None:
    assert not circle(arrows())


def test_no_circle_of_folders() -> None:
    rooms: dict[str, set[str]] = defaultdict(set)
    for file, targets in arrows().items():
        rooms[room_of(file)] |= {room_of(target) for target in targets} - {room_of(file)}
    assert not circle(rooms)


def room_of(module: str) -> str:
    """A folder of the first or second level with all that is in it; a loose file beside such folders is a room
    itself.
    """
    parts = module.split(".")
    return parts[0] if parts[0] == "schemas" else ".".join(parts[:2])


def test_the_wall_finds_a_circle() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not circle({"a": {"b", "c"}, "b": {"c"}})


def test_only_commands_know_producers_and_pipeline() -> None:
    both = {place(p) for p in modules() if {n.split(".")[0] for n in imports(p)} >= {"producers", "pipeline"}}
    assert both
    assert all(path.startswith("pipeline/commands/") for path in both), both


def test_libraries_stay_in_their_rooms() -> None:
    for path in modules():
        where, libraries = place(path), {n.split(".")[0] for n in imports(path)}
        if where.startswith(PEERS):
            continue
        for library in libraries & set(LIBRARY_ONLY_IN):
            assert where.startswith(LIBRARY_ONLY_IN[library]), f"{where} imports {library}"
        for room, allowed in LIBRARIES_OF.items():
            if where.startswith(room + "/"):
                foreign = libraries - allowed - set(sys.stdlib_module_names) - set(OURS)
                assert not foreign, f"{where} imports {', '.join(sorted(foreign))}"


def test_files_fit_in_a_head() -> None:
    long = {place(p): n for p in sources() if (n := len(p.read_text().splitlines())) > MOST_LINES}
    assert not long, f"more than {MOST_LINES} lines: {long}"


def test_lines_fit_a_screen() -> None:
    wide = [
        f"{place(p)}:{n}"
        for p in sources()
        for n, line in enumerate(p.read_text().splitlines(), 1)
        if len(line) > MOST_COLUMNS
    ]
    assert not wide


def test_no_two_classes_have_one_name() -> None:
    where = defaultdict(set)
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not place(path).startswith(PEERS):
                where[node.name].add(place(path))
    assert not {name: paths for name, paths in where.items() if len(paths) > 1}


def test_every_error_of_ours_is_a_gigawatch_error() -> None:
    """The command line catches one class, so an error that does not derive from it shows a traceback."""
    builtin = {n for n, c in vars(builtins).items() if isinstance(c, type) and issubclass(c, BaseException)}
    strangers, ours = [], set[str]()
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
                if "GigawatchError" in bases:
                    ours.add(node.name)
                elif bases & (builtin | {"ClickException"}) and node.name != "GigawatchError":
                    strangers.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert not strangers
    assert {"SettingsError", "SourceError", "StoreError", "BrokerError", "ProcessError", "CommandError"} <= ours


def test_no_room_without_a_name() -> None:
    assert not [p for p in modules() if p.stem in ("utils", "helpers", "common", "misc", "base")]


#: Words of our own where the field has one, and riddles: in code, help texts, pages and screens.
OWN_WORDS = re.compile(
    r"\b(said|told|tells?|whoever|anew|parcels?|outbox|bury|buried|tending|tender|trespass|guilty|"
    r"roster|packer|merger|raging|as ever|set aside|sets aside|of before|mood)\b",
    re.IGNORECASE,
)
_WORDS_MAY = {"CHANGELOG.md", "tests/test_house.py"}


def test_pages_and_code_use_the_words_of_the_field() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = []
    for name in tracked:
        if Path(name).suffix not in (".py", ".md", ".js", ".html", ".toml", ".yml", ".yaml") or name in _WORDS_MAY:
            continue
        path = ROOT / name
        for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
            if OWN_WORDS.search(line.replace(".tell()", "")):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)
