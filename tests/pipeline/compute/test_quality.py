"""Every reason of data quality: the samples kept or left out, and the row that counts them, in batches of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.compute.quality import REASONS
from pipeline.stream.partition import Partition
from schemas.codec import encode, encode_batch
from schemas.frame import build
from schemas.log_record import LogRecord
from schemas.validation import classify_delay

START = 1_750_000_000_000
DEVICES = 4
Row = tuple[str, str, str]  # rack, metric, reason


def message(
    second: float,
    *,
    rack: str = "R1",
    sent: float | None = None,
    devices: int = DEVICES,
    energy: float | None = None,
    temp: float = 50.0,
    stamp: float | None = None,
) -> tuple[int, bytes]:
    """(Kafka's time stamp, a rack's frame at `second`); `stamp` replaces the frame's own time stamp."""
    at = START + round(second * 1000)
    grown = 300.0 * (second + 1) if energy is None else energy
    frame = build(
        "gpu",
        round(stamp) if stamp is not None else at,
        {"site": ["s"] * devices, "rack": [rack] * devices, "device": [f"{rack}-{i}" for i in range(devices)]},
        {
            "power_w": np.full(devices, 300.0, np.float32),
            "energy_j": np.full(devices, grown),
            "temp_c": np.array([temp] + [50.0] * (devices - 1), np.float32),
        },
    )
    return (at if sent is None else START + round(sent * 1000)), encode(frame)


def counted(messages: Sequence[tuple[int, bytes]]) -> tuple[dict[Row, int], Partition]:
    """Counts by (rack, metric, reason), added up over panes; the same for messages one by one as for all at once."""
    log = [LogRecord("", 0, n, kafka_ms, value) for n, (kafka_ms, value) in enumerate(messages)]
    together, apart = Partition("gpu"), Partition("gpu")
    rows = _rows(together.add(log))
    assert rows == _rows([c for m in log for c in apart.add([m])])
    found: dict[Row, int] = {}
    for row in rows:
        assert (row["kind"], row["ts"].timestamp() % 10) == ("gpu", 0)
        key = row["rack"], row["metric"], row["reason"]
        found[key] = found.get(key, 0) + row["count"]
    assert {reason for _, _, reason in found} <= set(REASONS)
    return found, together


def _rows(closed: Sequence[Any]) -> list[dict[str, Any]]:
    return [row for c in closed if "quality" in c.batches for row in c.batches["quality"].to_pylist()]


STEADY = [message(k) for k in range(60)]


def test_a_steady_stream_counts_nothing() -> None:
    found, partition = counted(STEADY)
    assert found == {}
    assert partition.counts["processed"] == 60


def test_late_samples_are_counted_with_their_rack() -> None:
    found, partition = counted([*STEADY[:30], message(5, sent=30, rack="R2"), *STEADY[30:]])
    assert found == {("R2", "", "late"): DEVICES}
    assert partition.engine.counts["late"] == DEVICES
    assert len(partition.engine.devices) == DEVICES, "a device that is only ever late is not expected to be there"


def test_what_comes_out_of_order_is_taken_while_its_pane_is_open() -> None:
    swapped = [*STEADY[:21], STEADY[22], STEADY[21], *STEADY[23:]]
    found, _ = counted(swapped)
    assert found == {("R1", "", "out-of-order"): DEVICES}
    straight, again = Partition("gpu"), Partition("gpu")
    a, b = (
        p.add([LogRecord("", 0, n, t, v) for n, (t, v) in enumerate(log)])
        for p, log in ((straight, STEADY), (again, swapped))
    )
    windows = [[encode_batch(c.batches["window"]) for c in closed if "window" in c.batches] for closed in (a, b)]
    assert windows[0] == windows[1]


def test_a_second_sample_in_a_tick_is_left_out() -> None:
    found, partition = counted([*STEADY[:25], message(24.2), *STEADY[25:]])
    assert found == {("R1", "", "doubled"): DEVICES}
    assert partition.engine.counts["duplicate"] == DEVICES


@pytest.mark.parametrize(
    ("age_s", "reason"),
    [
        (30, ""),
        (59, ""),
        (61, "behind"),
        (300, "behind"),
        (3600, "time-zone"),
        (3620, "time-zone"),
        (5.5 * 3600, "time-zone"),
        (3700, "behind"),
        (20 * 3600, "behind"),
    ],
)
def test_clocks_that_are_behind(age_s: float, reason: str) -> None:
    assert classify_delay(START, START + round(age_s * 1000)) == reason


def test_a_clock_that_is_behind_is_counted_and_its_samples_are_taken() -> None:
    found, partition = counted([message(k, sent=k + 3600) for k in range(40)])
    assert set(found) == {("R1", "", "time-zone")}
    assert partition.counts["time-zone"] == 40 * DEVICES
    assert partition.engine.closed_ms > START


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (message(20, sent=20 - 3600), "future"),
        (message(20, sent=20 - 120), "future"),
        (message(20, stamp=(START + 20_000) / 1000), "seconds"),
        (message(20, sent=20 + 2 * 86400), "stale"),
    ],
)
def test_impossible_times_are_counted_and_discarded(bad: tuple[int, bytes], reason: str) -> None:
    found, partition = counted([*STEADY[:20], bad, *STEADY[20:]])
    assert found == {("R1", "", reason): DEVICES}
    assert partition.counts[f"discarded:{reason}"] == 1
    assert partition.counts["received"] == partition.counts["processed"] + 1


def test_a_silent_device_is_counted_pane_after_pane() -> None:
    found, _ = counted([m for k in range(60) for m in (message(k), *([message(k, rack="R2")] if k < 25 else []))])
    assert found == {("R2", "", "silent"): 2 * DEVICES}, "two whole panes without it have closed"


def test_an_energy_counter_that_does_not_move_is_counted() -> None:
    found, _ = counted([message(k, energy=1000.0 if k > 20 else None) for k in range(60)])
    assert set(found) == {("R1", "energy_j", "frozen"), ("R1", "energy_j", "counter-reset")}
    assert found["R1", "energy_j", "frozen"] >= 2 * DEVICES


def test_a_counter_that_goes_backwards_is_counted() -> None:
    found, _ = counted([message(k, energy=300.0 * (k + 1 if k < 25 else k - 24)) for k in range(60)])
    assert found == {("R1", "energy_j", "counter-reset"): DEVICES}


@pytest.mark.parametrize(("value", "reason"), [(400.0, "range"), (2147483632.0, "sentinel"), (np.inf, "infinite")])
def test_impossible_values_are_counted_by_metric(value: float, reason: str) -> None:
    found, partition = counted([message(k, temp=value if k in (22, 23) else 50.0) for k in range(60)])
    assert found == {("R1", "temp_c", reason): 2}
    assert partition.engine.intake.missing == {("temp_c", reason): 2}


def test_two_reasons_in_one_metric_are_counted_for_their_own_racks() -> None:
    found, _ = counted(
        [
            m
            for k in range(60)
            for m in (
                message(k, temp=400.0 if k == 22 else 50.0),
                message(k, rack="R2", temp=np.inf if k == 22 else 50.0),
            )
        ]
    )
    assert found == {("R1", "temp_c", "range"): 1, ("R2", "temp_c", "infinite"): 1}


def test_what_is_counted_and_what_is_received_add_up() -> None:
    _, partition = counted([*STEADY[:30], (START, b"junk"), message(20, sent=20 - 3600), *STEADY[30:]])
    counts = partition.counts
    assert (
        counts["received"]
        == 62
        == counts["processed"] + sum(n for reason, n in counts.items() if reason.startswith("discarded:"))
    )
