"""Dashboards to JSON in the tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.alerts import rules
from dashboards.boards import cooling, factory, gpu, health, incidents, jobs, power, rack

FOLDER = Path(__file__).parent / "json"
ALERTS = Path(__file__).parent / "provisioning" / "alerting" / "rules.yaml"
DASHBOARDS = {
    b.__name__.rpartition(".")[2]: b.dashboard for b in (factory, rack, gpu, power, cooling, jobs, incidents, health)
}


def built() -> dict[str, str]:
    """File name -> JSON text of every dashboard."""
    out = {}
    for name, make in DASHBOARDS.items():
        body = json.loads(json.dumps(make().build(), cls=JSONEncoder))
        for number, panel in enumerate(body["panels"], 1):
            panel["id"] = number
        for variable in body["templating"][
            "list"
        ]:  # the plugin shows and runs `definition`, which the SDK's builder lacks
            if variable["type"] == "query":
                variable["definition"] = variable["query"]["rawSql"]
        out[f"{name}.json"] = json.dumps(body, indent=2, sort_keys=True) + "\n"
    return out


def write(check: bool = False) -> list[str]:
    """Writes what differs (or only names it, with `check`); returns the file names."""
    FOLDER.mkdir(exist_ok=True)
    wanted = {FOLDER / name: text for name, text in built().items()} | {ALERTS: rules.provisioned()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if not check:
        for path in stale:
            path.write_text(wanted[path])
    return [path.name for path in stale]


def load() -> dict[str, dict[str, Any]]:
    """The dashboards in the tree, parsed; uid by uid."""
    return {body["uid"]: body for path in sorted(FOLDER.glob("*.json")) if (body := json.loads(path.read_text()))}
