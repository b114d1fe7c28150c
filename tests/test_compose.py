"""docker-compose.yml matches the code: versions, addresses, commands, secrets."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.datasource import PLUGIN_VERSION, UID
from dashboards.watch.server import FIRST
from pipeline.embedded.broker import KAFKA_VERSION
from tests.conftest import ROOT


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
