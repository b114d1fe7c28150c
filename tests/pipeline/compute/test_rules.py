"""Detector rules: one entry is enough for scores and incidents; what is skipped, replaced, remembered, and alerted."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from pipeline.compute import rules
from pipeline.compute.derived_rows import ClosedPane
from pipeline.compute.engine import KindEngine
from pipeline.compute.rules import Finding, PaneView, Rule, RuleState, causes_of, registered, rules_of
from schemas.catalogue import KINDS
from schemas.frame import Frame, build

START = 1_750_000_000_000
GPUS = 8


def tick(second: int, kind: str = "gpu", **odd: float) -> Frame:
    """A rack at one second; `odd` values are those of the third device, and are carried by no other."""
    names = {"gpu": "H100", "node": "Grace"}
    columns = {
        "power_w": np.full(GPUS, 400.0, np.float32),
        "temp_c": np.full(GPUS, 55.0, np.float32),
        "energy_j": np.full(GPUS, 400.0 * (second + 1)),
    }
    for name, value in odd.items():
        column = columns.setdefault(name, np.full(GPUS, np.nan, KINDS[kind][name].dtype))
        column[2] = value
    identity = {
        "site": ["s"] * GPUS,
        "rack": ["R1"] * GPUS,
        "device": [f"d{i}" for i in range(GPUS)],
        "model": [names[kind]] * GPUS,
    }
    return build(kind, START + 1000 * second, identity, columns)


def run(seconds: int, engine: KindEngine | None = None, start: int = 0, **odd: float) -> list[ClosedPane]:
    engine = engine or KindEngine("gpu")
    return [c for k in range(start, start + seconds) for c in engine.add([tick(k, engine.kind, **odd)])]


def rows(closed: list[ClosedPane], stream: str) -> list[dict[str, Any]]:
    return [row for c in closed if stream in c.batches for row in c.batches[stream].to_pylist()]


def _full(view: PaneView, _: RuleState) -> Finding:
    used = view.max("fb_used_mib")
    return used > 180_000, used


FULL = Rule("memory-full", "Memory is nearly full.", 0.7, _full, ("gpu",), ("fb_used_mib",), expected=180_000.0)


def test_one_more_rule_is_found_in_scores_and_in_an_incident_under_its_name() -> None:
    with registered(FULL):
        closed = run(44, fb_used_mib=181_000.0)
    found = rows(closed, "score")
    assert {(r["kind"], r["device"], r["cause"]) for r in found} == {("gpu", "d2", "memory-full")}
    assert {(round(r["score"], 3), r["value"], r["expected"]) for r in found} == {(0.7, 181_000.0, 180_000.0)}
    assert len(found) == 4, "every pane"
    opened = rows(closed, "incident")
    assert [(r["device"], r["cause"], r["open"]) for r in opened] == [("d2", "memory-full", 1)]
    assert rows(run(44, fb_used_mib=181_000.0), "score") == [], "gone after the block"


def test_a_rule_is_skipped_where_what_it_needs_is_not_measured() -> None:
    def never(_: PaneView, __: RuleState) -> Finding:
        raise AssertionError("evaluated without its metric")

    with registered(Rule("memory-full", "", 0.7, never, needs=("fb_used_mib",))):
        assert rows(run(24), "score") == [], "no GPU gives it"
        assert rows(run(24, KindEngine("node")), "score") == [], "the kind does not have it"
        with pytest.raises(AssertionError):
            run(24, fb_used_mib=1.0)


@pytest.mark.parametrize(("overrides", "cause"), [(False, "ecc_dbe_total"), (True, "memory-full")])
def test_a_rule_that_overrides_replaces_a_higher_score(overrides: bool, cause: str) -> None:
    rule = Rule("memory-full", "", 0.7, _full, ("gpu",), ("fb_used_mib",), overrides=overrides)
    engine = KindEngine("gpu")
    run(14, engine, ecc_dbe_total=0.0, fb_used_mib=181_000.0)
    with registered(rule):
        closed = run(10, engine, start=14, ecc_dbe_total=2.0, fb_used_mib=181_000.0)
    assert [r["cause"] for r in rows(closed, "score")] == [cause]


def test_a_severe_xid_counts_once_even_over_a_snapshot() -> None:
    engine = KindEngine("gpu")
    closed = run(24, engine, xid=79.0)
    assert [(r["device"], r["cause"], r["value"]) for r in rows(closed, "score")] == [("d2", "xid", 79.0)]
    restored = pickle.loads(pickle.dumps(engine))  # noqa: S301 - what is written here
    assert rows(run(20, restored, start=24, xid=79.0), "score") == []
    assert [r["value"] for r in rows(run(10, restored, start=44, xid=119.0), "score")] == [119.0]


def test_an_xid_of_the_user_is_no_finding() -> None:
    assert rows(run(24, xid=13.0), "score") == []


def test_a_rule_counts_what_it_finds_as_a_matter_of_quality_when_it_names_a_reason() -> None:
    with registered(Rule("memory-full", "", 0.7, _full, ("gpu",), ("fb_used_mib",), quality="range")):
        found = rows(run(34, fb_used_mib=181_000.0), "quality")
    assert [(r["rack"], r["metric"], r["reason"], r["count"]) for r in found] == [("R1", "", "range", 1)] * 3


def test_a_rule_remembers_devices_that_are_there_when_more_join() -> None:
    state = RuleState()
    state.array("last", 2, 0.0)[1] = 7.0
    assert state.array("last", 4, -1.0).tolist() == [0.0, 7.0, -1.0, -1.0]


def test_an_alert_names_the_causes_that_raise_it_by_kind() -> None:
    assert set(causes_of("gpu-lost", "gpu")) == {
        "silent",
        "xid",
        "ecc_dbe_total",
        "row_remap_failure",
        "row_remap_uncorrectable_total",
    }
    assert causes_of("gpu-frozen", "gpu") == ("frozen",)
    assert causes_of("psu-loss", "power") == ("psu_failed",)
    assert causes_of("leak", "cooling") == ("leak",)
    assert causes_of("gpu-lost", "node") == causes_of("leak", "gpu") == causes_of("", "gpu") == ()
    with registered(Rule("memory-full", "", 0.7, _full, ("gpu",), ("fb_used_mib",), alert="gpu-lost")):
        assert causes_of("gpu-lost", "gpu")[-1] == "memory-full"


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_with_an_alarm_has_a_rule_and_no_cause_has_two(kind: str) -> None:
    names = Counter(rule.name for rule in rules_of(kind))
    assert set(names.values()) <= {1}
    assert names.keys() >= {m.name for m in KINDS[kind].metrics if m.alarm_at is not None}
    assert ("silent" in names) == KINDS[kind].expected
    assert all(rule.help and rule.title and "{device}" in rule.summary for rule in rules_of(kind))


def test_a_rule_of_an_unknown_kind_or_score_is_refused_with_its_name() -> None:
    with pytest.raises(ValueError, match="'memory-full': no kind tpu; there are gpu, gpu_instance, node"):
        Rule("memory-full", "", 0.7, _full, ("tpu",))
    with pytest.raises(ValueError, match="'memory-full': the score 7 is not within 0 to 1"):
        Rule("memory-full", "", 7, _full)


def test_dashboards_can_read_the_rules_without_loading_the_stream() -> None:
    heavy = "pyarrow", "faust", "aiokafka", "clickhouse_connect"
    code = f"import sys, {rules.__name__}; sys.exit([m for m in {heavy!r} if m in sys.modules] or 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
