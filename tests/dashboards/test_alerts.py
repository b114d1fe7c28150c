"""Alert rules: each fires on its own labelled fault and on nothing else, and all are quiet for an hour of healthy
plant.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from dashboards import build
from dashboards.alerts import detected
from dashboards.alerts.detected import by_cause
from dashboards.alerts.evaluate import evaluate
from dashboards.alerts.provision import provisioned
from dashboards.alerts.rule import EVERY_S, AlertRule
from dashboards.alerts.rules import all_rules
from dashboards.datasource import UID
from dashboards.macros import Range, expand
from dashboards.watch.server import QueryTable
from pipeline.compute.rules import Finding, PaneView, Rule, RuleState, registered
from pipeline.store.client import connect
from pipeline.store.migrate import migrate
from producers.sources.synthetic.faults import FAULTS
from schemas import frame
from schemas.frame import Frame
from tests import plants
from tests.conftest import ROOT

#: Fault -> (rule, the device or rack that it must name).
EXPECTED = {
    "gpu-thermal@R0001-N03-GPU2:120": ("gpu-hot", "R0001-N03-GPU2"),
    "gpu-throttle@R0002-N01-GPU1:120": ("gpu-throttled", "R0002-N01-GPU1"),
    "gpu-straggler@R0003-N05-GPU0:120": ("gpu-straggler", "R0003-N05-GPU0"),
    "gpu-dead@R0004-N02-GPU3:120": ("gpu-lost", "R0004-N02-GPU3"),
    "gpu-frozen@R0005-N07-GPU2:120": ("gpu-frozen", "R0005-N07-GPU2"),
    "coolant-flow@R0006:120": ("coolant-flow", "R0006"),
    "leak@R0007:120": ("leak", "R0007"),
    "lying-sensor@R0008:120": ("heat-balance", "R0008"),
    "psu-loss@R0011:120": ("psu-loss", "R0011-SHELF0"),
    "cdu-pump@CDU-002:120": ("cdu-pump", "CDU-002"),
}
#: A rack that goes dark: all its GPUs are lost.
DARK = "rack-dark@R0014:120"
DARK_GPUS = {("gpu-lost", f"R0014-N{node:02d}-GPU{gpu}") for node in range(1, 19) for gpu in range(4)}
#: Faults that no operator must act on at once: a swap is somebody's work, and a job that idles is its user's affair.
QUIET = ("job-idle@R0012-N03:120", "gpu-swap@R0013-N01-GPU0:120", "gpu-swap@R0015-N01-GPU0~R0016-N02-GPU1:150")
#: Of the four endpoints beside the plant one goes down.
ENDPOINT_DOWN = ("endpoint-down", "http://R0002-N02:9400/metrics")


def endpoints(now_ms: int, down_from_ms: int) -> list[Frame]:
    nodes = [f"R0002-N{n:02d}" for n in range(1, 5)]
    devices = [f"http://{node}:9400/metrics" for node in nodes]
    up = [0.0 if now_ms >= down_from_ms and device == ENDPOINT_DOWN[1] else 1.0 for device in devices]
    places = {"site": ["site-1"] * 4, "rack": ["R0002"] * 4, "node": nodes, "device": devices}
    return [
        frame.build("endpoint", now_ms, places, {"up": up, "duration_s": [0.1] * 4, "devices": [4.0 * u for u in up]})
    ]


class Asks:
    def __init__(self, url: str) -> None:
        self.client = connect(url, readonly=True)

    def __call__(self, sql: str) -> QueryTable:
        found = self.client.query(sql)
        return QueryTable(found.column_names, found.result_rows)


def yesterday(minute: int) -> int:
    """A moment that is the same on every day, s since 1970: the plant's jobs follow the clock."""
    return round(time.time()) // 86400 * 86400 - 43200 + 60 * minute


def fired(ask: Any, at_s: float) -> set[tuple[str, str]]:
    found = evaluate(ask, dt.datetime.fromtimestamp(at_s, dt.UTC))
    return {(f.rule.name, f.labels.get("device") or f.labels.get("rack") or f.labels.get("site") or "") for f in found}


def over_its_limit(ask: Any, moments: Sequence[int], at_once: int = 40) -> list[int]:
    """The moments at which a rule is over its limit, asked for many at once: at all others nothing can fire."""
    found = set()
    for rule in all_rules():
        for chosen in (moments[n : n + at_once] for n in range(0, len(moments), at_once)):
            looks = []
            for at_s in chosen:
                at = dt.datetime.fromtimestamp(at_s, dt.UTC)
                over = Range(at - dt.timedelta(seconds=rule.back_s), at, 10)
                looks.append(f"SELECT {at_s} AS at, value FROM ({expand(rule.sql, over, {})})")
            rows = ask(" UNION ALL ".join(looks)).rows
            found |= {at_s for at_s, value in rows if value is not None and rule.over(float(value))}
            if rule.silence_is_bad:
                found |= set(chosen) - {at_s for at_s, _ in rows}
    return sorted(found)


def test_every_fault_of_the_plant_has_a_rule_that_is_tested() -> None:
    assert {spec.split("@")[0] for spec in (*EXPECTED, DARK, *QUIET)} == set(FAULTS)
    assert {rule for rule, _ in EXPECTED.values()} | {"telemetry-late", "dead-letters", ENDPOINT_DOWN[0]} == {
        rule.name for rule in all_rules()
    }


@pytest.mark.service
async def test_each_fault_fires_exactly_its_own_rule(own_clickhouse: str) -> None:
    """All faults at once, each in a rack of its own, and an endpoint that goes down: from their beginning to their end
    nothing else fires, and at the end all do.
    """
    client, ask = connect(own_clickhouse), Asks(own_clickhouse)
    migrate(client)
    ticks = 320
    start = yesterday(7)  # the checkpoints of the plant's jobs fall into it
    down_from_ms = (start + 120) * 1000
    await plants.store(
        client,
        16,
        ticks,
        start * 1000,
        (*EXPECTED, DARK, *QUIET),
        more=lambda now_ms: endpoints(now_ms, down_from_ms),
    )
    wanted = {*EXPECTED.values(), *DARK_GPUS, ENDPOINT_DOWN}
    for after in range(60, ticks, 20):
        extra = fired(ask, start + after) - wanted
        assert not extra, f"{after} s after the start"
    assert fired(ask, start + 110) == set(), "before the faults"
    assert fired(ask, start + ticks - 10) == wanted
    assert over_its_limit(ask, [start + 110, start + ticks - 10]) == [start + ticks - 10]
    assert {rule for rule, _ in fired(ask, start + ticks + 120)} == {"telemetry-late"} | {
        "gpu-lost",
        "cdu-pump",
        "coolant-flow",
    }, (
        "when telemetry stops, the rules that look at the last minute have nothing to see (three look further "
        "back), and one fires for that"
    )
    client.command(
        "INSERT INTO gigawatch.dead_letters (ts, id, topic, reason) SELECT "
        f"toDateTime64({start + ticks - 100}, 3), 'x', 'telemetry.gpu', 'not-arrow'"
    )
    assert [
        f.summary
        for f in evaluate(ask, dt.datetime.fromtimestamp(start + ticks - 10, dt.UTC))
        if f.rule.name == "dead-letters"
    ] == ["1 messages were dead-lettered in the last five minutes; the newest: not-arrow"]
    client.close()


@pytest.mark.service(60)
async def test_an_hour_of_healthy_plant_is_quiet(own_clickhouse: str) -> None:
    client, ask = connect(own_clickhouse), Asks(own_clickhouse)
    migrate(client)
    start = yesterday(0)
    await plants.store(client, 2, 3600, start * 1000, seed=11)
    assert client.query("SELECT count() FROM gigawatch.rack_windows WHERE window_s = 10").result_rows[0][0] >= 2 * 355
    moments = range(start + 60, start + 3590, EVERY_S)
    assert {at: seen for at in over_its_limit(ask, moments) if (seen := fired(ask, at))} == {}
    client.close()


def test_a_rule_fires_only_when_it_has_held_for_its_time() -> None:
    rule = AlertRule(
        "x",
        "X",
        "warning",
        "{device} at {value:.1f}",
        "it is high",
        ("site", "rack", "device"),
        "SELECT $__toTime",
        1.0,
        for_s=60,
    )
    now = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)

    def answers(values: dict[int, float]) -> Any:
        def ask(sql: str) -> QueryTable:
            age = round(now.timestamp()) - int(sql.split("(")[1].rstrip(")"))
            return QueryTable(("site", "rack", "device", "value"), [("s", "R", "d", values[age])])

        return ask

    assert [f.summary for f in evaluate(answers({0: 2.0, 30: 3.0, 60: 4.0}), now, (rule,))] == ["d at 2.0"]
    for dip in (0, 30, 60):
        values = {0: 2.0, 30: 2.0, 60: 2.0} | {dip: 0.5}
        assert evaluate(answers(values), now, (rule,)) == []


def test_a_store_that_gets_nothing_any_more_raises_an_alert() -> None:
    found = evaluate(lambda _: QueryTable(("site", "value"), []), dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    assert [(f.rule.name, f.summary) for f in found] == [("telemetry-late", "nothing was stored in the last 900 s")]
    assert found[0].href == "/d/gigawatch-health/health?"


def test_provisioned_rules_are_the_rules() -> None:
    body = yaml.safe_load(build.ALERTS.read_text())
    by_uid = {rule["uid"]: rule for group in body["groups"] for rule in group["rules"]}
    assert set(by_uid) == {f"gigawatch-{rule.name}" for rule in all_rules()}
    for rule in all_rules():
        made = by_uid[f"gigawatch-{rule.name}"]
        assert made["for"] == f"{rule.for_s}s"
        assert rule.for_s >= EVERY_S, "a rule without a duration flaps"
        assert made["labels"]["severity"] in ("critical", "warning")
        assert made["data"][0]["datasourceUid"] == UID
        assert made["condition"] in {d["refId"] for d in made["data"]}
        assert made["data"][0]["model"]["rawSql"] == rule.sql
        assert all(
            f"$labels.{name}" in made["annotations"]["summary"] for name in rule.labels if f"{{{name}}}" in rule.summary
        )
        assert "${" not in made["annotations"]["summary"], "Grafana would take it for an environment variable"
        assert (ROOT / made["annotations"]["runbook_url"]).read_text().startswith(f"# {rule.title}\n")


def test_contact_points_and_mute_times_come_from_the_environment() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["environment"]
    folder = ROOT / "dashboards/provisioning/alerting"
    body = yaml.safe_load((folder / "notify.yaml").read_text())
    (point,), (policy,), (mute,) = body["contactPoints"], body["policies"], body["muteTimes"]
    assert policy["receiver"] == point["name"]
    assert policy["routes"][0]["mute_time_intervals"] == [mute["name"]]
    used = {name.split("}")[0] for text in [(folder / "notify.yaml").read_text()] for name in text.split("${")[1:]}
    assert used
    assert used <= set(compose), "compose gives every variable a value: Grafana does not start without"


def test_an_alert_that_only_a_detector_rule_names_is_made_from_it() -> None:
    """One declaration: the alert, its SQL and its row in the runbooks' table; a declared alert gets a further cause."""
    fan = Rule(
        "fan_stopped",
        "A fan does not turn.",
        0.9,
        _never,
        kinds=("node", "power"),
        alert="fan-stopped",
        title="A fan has stopped",
        severity="warning",
        summary="{device}: a fan has stopped",
    )
    fallen = Rule("fallen", "Off the bus.", 0.9, _never, kinds=("gpu",), alert="gpu-lost")
    with registered(fan, fallen):
        _only_named_by_a_rule()


def _never(view: PaneView, _: RuleState) -> Finding:
    return view.samples > 1 << 30, view.mean("power_w")


def _only_named_by_a_rule() -> None:
    with_them = all_rules()
    (made,) = [rule for rule in with_them if rule.name == "fan-stopped"]
    assert (made.name, made.title, made.severity, made.fires, made.board) == (
        "fan-stopped",
        "A fan has stopped",
        "warning",
        "A fan does not turn.",
        "rack",
    )
    assert "(kind = 'node' AND cause IN ('fan_stopped')) OR (kind = 'power' AND cause IN ('fan_stopped'))" in made.sql
    assert "'fallen'" in by_cause("x", "X", "critical", "x", "x", detected.kinds_of("gpu-lost")).sql
    now = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    found = evaluate(lambda _: QueryTable(("site", "rack", "device", "value"), [("s", "R1", "N1", 0.9)]), now, (made,))
    assert [(f.summary, f.href) for f in found] == [
        ("N1: a fan has stopped", "/d/gigawatch-rack/rack?var-site=s&var-rack=R1")
    ]
    assert (
        "[A fan has stopped](fan-stopped.md) | warning | A fan does not turn. |"
        in build.pages()[build.DOCS / "runbooks" / "README.md"]
    )
    assert "gigawatch-fan-stopped" in provisioned()


def test_every_alert_has_a_runbook_with_its_title() -> None:
    for rule in all_rules():
        assert (ROOT / rule.runbook).read_text().startswith(f"# {rule.title}\n"), rule.name
