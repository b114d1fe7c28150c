"""What the kubelet's answers mean, and what becomes of them from poll to poll."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sources.kubernetes.holds import SETTLE_MS, PodHolds, Row
from producers.sources.kubernetes.parse import GpuPod, of_plugin, parse
from producers.sources.kubernetes.protobuf import InvalidProtobuf, Message
from schemas.jobs import ALLOCATION, JOB, REPEAT_S
from tests.conftest import DATA

#: What k8s.io/kubelet's own messages make of pods.json.
RECORDED = (DATA / "kubernetes" / "pods.pb").read_bytes()
T0, TICK = 1_750_000_000_000, 10_000
UUID = "GPU-8f0c1a55-2d3e-4c77-9a10-00000000000"


def pod(name: str, *devices: str, namespace: str = "team") -> GpuPod:
    return GpuPod(namespace, name, devices)


def fresh() -> PodHolds:
    return PodHolds("s", "n1", TICK)


def brief(rows: list[Row]) -> list[tuple[object, ...]]:
    return [(r["job"], r["devices"], r["share"], r["started"] - T0, r["ended"] and r["ended"] - T0) for r in rows]


def test_the_kubelets_answer_is_its_pods_and_their_boards() -> None:
    found = parse(RECORDED, "n1", ["slurm"])
    assert [(p.job, p.devices) for p in found.pods] == [
        ("team-a/llama-0", (f"{UUID}0", f"{UUID}1")),
        ("team-b/chat-5d9f", (f"{UUID}2",)),
        ("team-b/embed-77c4", (f"{UUID}2",)),
        ("team-c/notebook-1", (f"{UUID}3/2", "MIG-5c89852c-d268-5c3f-9b07-3f2a14f6d2c1")),
        ("team-d/nvl72-worker-3", ("n1-GPU4",)),
    ]
    assert found.unknown == {"gpu.nvidia.com n1/gpu-5-mig-1g12gb-19-0"}


def test_pods_that_slurm_runs_in_are_pods_unless_they_are_skipped() -> None:
    assert "slurm/slurmd-n1" in {p.job for p in parse(RECORDED, "n1").pods}


@pytest.mark.parametrize(
    ("resource", "given", "device"),
    [
        ("nvidia.com/gpu", "GPU-ab", "GPU-ab"),
        ("nvidia.com/gpu.shared", "GPU-ab::3", "GPU-ab"),
        ("nvidia.com/mig-1g.10gb", "MIG-cd", "MIG-cd"),
        ("nvidia.com/mig-1g.10gb.shared", "MIG-cd::0", "MIG-cd"),
        ("nvidia.com/mig-1g.5gb", "MIG-GPU-ab/7/0", "GPU-ab/7"),
        ("nvidia.com/gpu", "3", "n1-GPU3"),
        ("nvidia.com/gpu", "nvidia5", "n1-GPU5"),
        ("nvidia.com/gpu", "nvidia5/vgpu1", "n1-GPU5"),
        ("nvidia.com/gpu", "nvidia5/gi2", "n1-GPU5/2"),
        ("nvidia.com/GH100_H100", "12", ""),
        ("nvidia.com/gpu", "", ""),
    ],
)
def test_every_form_of_a_device_id_names_its_board(resource: str, given: str, device: str) -> None:
    assert of_plugin(resource, given, "n1") == device


def field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def test_fields_of_newer_kubelets_are_read_over() -> None:
    newer = b"\xa8\x06\x96\x01" + b"\xb5\x06abcd" + b"\xb9\x06abcdefgh" + b"\xc2\x06\x02hi"  # 101, 102, 103, 104
    gpus = field(1, b"nvidia.com/gpu") + field(2, b"GPU-ab") + newer
    container = newer + field(2, gpus)
    answer = newer + field(1, field(1, b"p") + newer + field(2, b"ns") + field(3, container)) + newer
    assert parse(answer, "n1").pods == (GpuPod("ns", "p", ("GPU-ab",)),)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (RECORDED[:-1], "are left"),
        (b"\x0a", "cut off"),
        (b"\x0a\xff", "cut off"),
        (b"\x08" + b"\xff" * 11, "more than ten bytes"),
        (b"\x03\x00\x00", "field number 0"),
        (b"\x0b", "wire type 3 of field 1"),
        (b"\x08\x01", "field 1 is a number"),
        (field(1, field(1, b"\xff")), "no UTF-8"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_place(answer: bytes, complaint: str) -> None:
    with pytest.raises(InvalidProtobuf, match=complaint):
        parse(answer, "n1")


SPOILED = st.builds(
    lambda at, byte: RECORDED[:at] + bytes([byte]) + RECORDED[at + 1 :], st.integers(0, 1100), st.integers(0, 255)
)


@given(st.binary(max_size=200) | SPOILED)
def test_any_bytes_are_an_answer_or_a_named_error(answer: bytes) -> None:
    try:
        found = parse(answer, "n1")
    except InvalidProtobuf as err:
        assert str(err)  # noqa: PT017 - either may come
    else:
        assert all(p.devices for p in found.pods)


def test_the_last_of_two_texts_counts() -> None:
    assert Message(field(1, b"a") + field(1, b"b")).text(1) == "b"
    assert Message(b"").text(1) == ""


def test_a_shared_board_is_divided_among_its_pods_and_not_among_containers() -> None:
    allocations, jobs = fresh().update(parse(RECORDED, "n1", ["slurm"]).pods, T0)
    assert {(r["job"], r["share"]) for r in allocations} == {
        ("team-a/llama-0", 1.0),
        ("team-b/chat-5d9f", 0.5),
        ("team-b/embed-77c4", 0.5),
        ("team-c/notebook-1", 1.0),
        ("team-d/nvl72-worker-3", 1.0),
    }
    assert {r["job"]: r["gpus"] for r in jobs}["team-a/llama-0"] == 2
    assert ALLOCATION.build_rows(allocations).num_rows == 5
    assert JOB.build_rows(jobs)["state"].to_pylist() == ["RUNNING"] * 5


def test_a_pod_that_comes_to_a_board_halves_it_from_then_on() -> None:
    """What the first one held alone stays its own."""
    held = fresh()
    held.update([pod("a", "G0")], T0)
    allocations, jobs = held.update([pod("a", "G0"), pod("b", "G0")], T0 + TICK)
    assert brief(allocations) == [
        ("team/a", ["G0"], 1.0, 0, TICK),
        ("team/a", ["G0"], 0.5, TICK, 0),
        ("team/b", ["G0"], 0.5, TICK, 0),
    ]
    assert [(r["job"], r["started"] - T0) for r in jobs] == [("team/b", TICK)]


def test_a_pod_with_boards_of_two_shares_has_two_holds_with_keys_of_their_own() -> None:
    allocations, _ = fresh().update([pod("a", "G0", "G1"), pod("b", "G1")], T0)
    assert brief(allocations) == [
        ("team/a", ["G0"], 1.0, 0, 0),
        ("team/a", ["G1"], 0.5, 1, 0),
        ("team/b", ["G1"], 0.5, 0, 0),
    ]
    assert [r["first_rank"] for r in allocations] == [0, 1, 0]


def test_a_pod_replaced_on_its_board_between_two_polls_leaves_no_gap() -> None:
    held = fresh()
    held.update([pod("a", "G0")], T0)
    allocations, jobs = held.update([pod("b", "G0")], T0 + TICK)
    assert brief(allocations) == [("team/a", ["G0"], 1.0, 0, TICK), ("team/b", ["G0"], 1.0, TICK, 0)]
    assert [(r["job"], r["state"], r["ended"] and r["ended"] - T0) for r in jobs] == [
        ("team/a", "ENDED", TICK),
        ("team/b", "RUNNING", 0),
    ]


def test_nothing_new_is_emitted_once_a_minute() -> None:
    held = fresh()
    polls = [held.update([pod("a", "G0")], T0 + n * TICK) for n in range(20)]
    times = [n * TICK / 1000 for n, (allocations, jobs) in enumerate(polls) if allocations and jobs]
    assert times[0] == 0
    assert all(0 < b - a <= REPEAT_S for a, b in pairwise(times))
    assert len(times) <= 4
    assert {r["started"] for allocations, _ in polls for r in allocations} == {T0}


def test_a_kubelet_that_knows_nothing_yet_ends_nothing() -> None:
    """After its restart it answers before it has its pods or their devices."""
    held = fresh()
    held.update([pod("a", "G0")], T0)
    assert held.update([], T0 + TICK) == ([], [])
    assert held.update([], T0 + 2 * TICK) == ([], [])
    assert held.update([pod("a", "G0")], T0 + 3 * TICK) == ([], [])


def test_the_last_pod_ends_when_it_vanished_and_is_known_half_a_minute_later() -> None:
    held = fresh()
    held.update([pod("a", "G0")], T0)
    polls = {n: held.update([], T0 + n * TICK) for n in range(1, 7)}
    (n,) = [n for n, (allocations, _) in polls.items() if allocations]
    assert n * TICK == TICK + SETTLE_MS
    assert brief(polls[n][0]) == [("team/a", ["G0"], 1.0, 0, TICK)]
    assert [(r["state"], r["ended"] - T0) for r in polls[n][1]] == [("ENDED", TICK)]


def test_a_pod_that_comes_back_under_its_name_begins_once_more() -> None:
    held = fresh()
    held.update([pod("a", "G0"), pod("b", "G1")], T0)
    held.update([pod("b", "G1")], T0 + TICK)
    allocations, jobs = held.update([pod("a", "G0"), pod("b", "G1")], T0 + 2 * TICK)
    assert brief(allocations) == [("team/a", ["G0"], 1.0, 2 * TICK, 0)]
    assert [(r["job"], r["submitted"] - T0) for r in jobs] == [("team/a", 2 * TICK)]


NODES = st.dictionaries(
    st.sampled_from("abcd"), st.frozensets(st.sampled_from(["G0", "G1", "G2", "M0"]), min_size=1), max_size=4
)


@given(st.lists(NODES, max_size=25))
def test_the_rows_by_their_keys_are_what_the_kubelet_lists(listings: list[dict[str, frozenset[str]]]) -> None:
    held, stored, jobs = fresh(), dict[tuple[object, ...], Row](), dict[tuple[object, ...], Row]()
    last: dict[str, frozenset[str]] = {}
    for n, listing in enumerate(listings):
        now = T0 + n * TICK
        allocated, known = held.update([pod(name, *sorted(devices)) for name, devices in listing.items()], now)
        for rows, stream, table in ((allocated, ALLOCATION, stored), (known, JOB, jobs)):
            keys = [tuple(row[k] for k in stream.key) for row in rows]
            assert len(set(keys)) == len(keys)
            table.update(zip(keys, rows, strict=True))
        is_settling = not listing and any(not r["ended"] for r in stored.values())
        last = last if is_settling else listing
        open_rows = [r for r in stored.values() if not r["ended"]]
        held_now = [(r["job"].removeprefix("team/"), d) for r in open_rows for d in r["devices"]]
        assert sorted(held_now) == sorted((p, d) for p, devices in last.items() for d in devices)
        shares = Counter[str]()
        for row in open_rows:
            shares.update(dict.fromkeys(row["devices"], row["share"]))
        assert all(share == pytest.approx(1) for share in shares.values())
        assert sorted(r["name"] for r in jobs.values() if not r["ended"]) == sorted(last)
        assert all(now - r["seen"] < REPEAT_S * 1000 for r in open_rows)
    for row in stored.values():
        assert not row["ended"] or row["started"] <= row["ended"]
