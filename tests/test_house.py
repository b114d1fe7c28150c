"""The house itself: imports point one way, names and docs match the design, compose matches the code."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dashboards.datasource import PLUGIN_VERSION, UID
from dashboards.watch.server import FIRST
from pipeline import settings
from pipeline.commands.catalogue import other_names, with_table
from pipeline.compute.quality import RULES
from pipeline.embedded.broker import KAFKA_VERSION
from schemas import catalogue
from tests.audit import verdict
from tests.conftest import ROOT

#: Package -> what it may import of ours. `pipeline.commands` is the composition root.
ALLOWED = {
    "schemas": {"schemas"},
    "producers": {"schemas", "producers"},
    "pipeline.compute": {"schemas", "pipeline.compute"},
    "pipeline.stream": {"schemas", "pipeline.compute", "pipeline.stream", "pipeline.kafka", "pipeline.monitoring"},
    "pipeline.sink": {
        "schemas",
        "pipeline.sink",
        "pipeline.store",
        "pipeline.kafka",
        "pipeline.monitoring",
    },
    "pipeline.store": {"schemas", "pipeline.store", "pipeline.settings", "pipeline.instance"},
    "pipeline.monitoring": {"schemas", "pipeline.monitoring", "pipeline.settings"},
    "pipeline.terminal": {"schemas", "pipeline.terminal", "pipeline.store", "pipeline.monitoring"},
    "pipeline.embedded": {
        "schemas",
        "pipeline.embedded",
        "pipeline.store",
        "pipeline.stream.names",
        "pipeline.kafka",
        "pipeline.monitoring",
        "pipeline.instance",
        "pipeline.settings",
    },
    "pipeline.bench": {"schemas", "pipeline"},
    "pipeline.commands": {"schemas", "producers", "pipeline", "dashboards"},
    "dashboards": {"schemas", "dashboards"},
}
ONLY_IN = {
    "faust": ("pipeline/stream",),
    "clickhouse_connect": (
        "pipeline/store",
        "pipeline/sink",
        "pipeline/embedded",
        "pipeline/bench",
        "pipeline/terminal",
        "pipeline/commands",
        "pipeline/api.py",
    ),
    "grafana_api": ("dashboards/push.py",),
    "chdb": ("pipeline/embedded/clickhouse",),
}


def modules() -> list[Path]:
    return [p for top in ("schemas", "producers", "pipeline", "dashboards") for p in sorted((ROOT / top).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package: str) -> None:
    folder = ROOT / package.replace(".", "/")
    for path in sorted(folder.rglob("*.py")):
        for name in imports(path):
            top = name.split(".")[0]
            if top in ("schemas", "producers", "pipeline", "dashboards"):
                fits = any(name == a or name.startswith(a + ".") or a.startswith(name + ".") for a in ALLOWED[package])
                assert fits, f"{path.relative_to(ROOT)} imports {name}"


def test_only_the_command_line_knows_producers_and_pipeline() -> None:
    both = {
        p.relative_to(ROOT).as_posix()
        for p in modules()
        if {n.split(".")[0] for n in imports(p)} >= {"producers", "pipeline"}
    }
    assert both
    assert all(path.startswith("pipeline/commands/") for path in both)


def test_foreign_libraries_stay_in_their_room() -> None:
    for path in modules():
        where = path.relative_to(ROOT).as_posix()
        for name in {n.split(".")[0] for n in imports(path)} & set(ONLY_IN):
            if where != "pipeline/bench/peers/faust_json.py":  # what one would write without us
                assert where.startswith(ONLY_IN[name]), f"{where} imports {name}"


def test_no_room_without_a_name() -> None:
    assert not [p for p in modules() if p.stem in ("utils", "helpers", "common")]


def test_docs_table_is_the_catalogue() -> None:
    assert (ROOT / "docs" / "catalogue.md").read_text() == catalogue.markdown(other_names()), "run `make docs`"


def test_docs_table_of_sources_is_the_registry() -> None:
    page = (ROOT / "docs" / "producers.md").read_text()
    assert page == with_table(page), "run `make docs`"


def test_every_package_has_a_page_and_the_flow_a_picture() -> None:
    docs = ROOT / "docs"
    for name in ("schemas", "producers", "compute", "stream", "store", "embedded", "dashboards"):
        assert (docs / f"{name}.md").exists(), f"docs/{name}.md"
    assert (docs / "flow.svg").exists()


def test_readme_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return body


def test_compose_is_pinned_healthy_and_local(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"kafka", "clickhouse", "grafana", "producer", "stream", "sink"}
    for name, service in services.items():
        image = service["image"]
        assert re.search(r":\d+(\.\d+)+$", image), f"{name}: {image} is not pinned"
        assert service["stop_grace_period"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} listens beyond loopback: {port}"
        if "build" not in service:
            assert service["healthcheck"]["test"], name


def test_compose_has_no_default_password(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for use in re.findall(r"\$\{(GIGAWATCH_\w*PASSWORD)([^}]*)\}", text):
        assert use[1].startswith(":?"), f"{use[0]} has a default or may be empty"
    secrets = [
        v for s in compose["services"].values() for k, v in (s.get("environment") or {}).items() if "PASSWORD" in k
    ]
    assert secrets
    assert all(str(v).startswith("${") for v in secrets)


def test_compose_matches_the_code(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert (
        services["grafana"]["environment"]["GF_PLUGINS_PREINSTALL_SYNC"]
        == f"grafana-clickhouse-datasource@{PLUGIN_VERSION}"
    )
    listeners = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    for name in ("producer", "stream", "sink"):
        assert f"INTERNAL://{services[name]['environment']['GIGAWATCH_BROKER']}" in listeners
    mounted = {v.split(":")[1] for v in services["grafana"]["volumes"] if v.startswith("./")}
    provider = yaml.safe_load((ROOT / "dashboards/provisioning/dashboards/gigawatch.yaml").read_text())["providers"][0]
    assert provider["options"]["path"] in mounted
    source = yaml.safe_load((ROOT / "dashboards/provisioning/datasources/clickhouse.yaml").read_text())["datasources"][
        0
    ]
    assert source["uid"] == UID
    wanted = set(re.findall(r"\$\{(\w+)\}", str(source)))
    assert wanted <= set(services["grafana"]["environment"])


def test_compose_opens_on_the_factory_board(compose: dict[str, Any]) -> None:
    grafana = compose["services"]["grafana"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    mounts = dict(reversed(v.split(":")[:2]) for v in grafana["volumes"] if v.startswith("./"))
    assert json.loads((ROOT / mounts[str(home.parent)] / home.name).read_text())["uid"] == FIRST
    assert mounts["/etc/grafana/provisioning"] == "./dashboards/provisioning"


def test_compose_commands_parse(compose: dict[str, Any]) -> None:
    from click import Context

    from pipeline.cli import gigawatch

    for name in ("producer", "stream", "sink"):
        command, *arguments = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", a) for a in compose["services"][name]["command"]]
        found = gigawatch.get_command(Context(gigawatch), command)
        assert found is not None
        found.make_context(command, arguments)


def test_everything_that_is_installed_is_pinned() -> None:
    """What the package and its extras need, and what those need in turn, stands in constraints.txt with the very
    version that is here.
    """
    pins = {
        canonicalize_name(name): version
        for name, _, version in (
            line.partition("==")
            for line in (ROOT / "constraints.txt").read_text().splitlines()
            if line and not line.startswith("#")
        )
    }
    assert all(version for version in pins.values()), "exact versions only"
    todo: list[tuple[str, tuple[str, ...]]] = [("gigawatch", ("embedded", "nvml", "plot", "dev"))]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while todo:
        name, extras = todo.pop()
        for line in importlib.metadata.requires(name) or ():
            wanted = Requirement(line)
            if wanted.marker is not None and not any(
                wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                continue
            key = canonicalize_name(wanted.name)
            if (key, tuple(sorted(wanted.extras))) not in seen:
                seen.add((key, tuple(sorted(wanted.extras))))
                todo.append((key, tuple(wanted.extras)))
    unpinned = {
        key
        for key, _ in seen
        if key != "gigawatch" and pins.get(canonicalize_name(key)) != importlib.metadata.version(key)
    }
    assert not unpinned, "not pinned, or another version: see constraints.txt"


def test_an_audit_fails_on_a_hole_and_says_when_it_was_none() -> None:
    good, unknown = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}
    bad = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
    assert verdict({"dependencies": [good, bad]}) == (1, "packages with known holes:\nc 2: PYSEC-1, mended in 3")
    assert verdict({"dependencies": [unknown]})[1].startswith("audit: NOT DONE")
    assert verdict({"dependencies": [good, unknown]}) == (
        0,
        "audit: 1 packages looked up, no known holes; not looked up: b",
    )


def test_the_rules_of_data_quality_are_in_the_docs() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    for reason, rule in RULES.items():
        assert f"| `{reason}` | {rule} |" in page


def test_every_setting_of_trust_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    for setting in settings.SETTINGS:
        assert f"[{setting.service}]" in page, setting
        assert setting.name in page, setting
