"""The closure of the edges: a hall whose answers are worked out by hand, circles, and the definition itself."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from schemas.reach import WALKED, Link, reach

#: Power:  UTILITY -> UPS-A -> PDU-A -.             2N: either is enough for R1..R3
#:         UTILITY -> UPS-B -> PDU-B -'-> R1 R2 R3   R4 has one cord, to PDU-A
#: Water:  P1 P2 P3 (N+1: modelled as one group) -> CDU-1 -> R1 R2 R3 R4
#: R1 holds R1-N01, R1-N02; R4 holds R4-N01; hall H holds row H/1, which holds R1 and R2. R1-N01 holds a GPU.
HALL: list[Link] = [
    ("power", "UTILITY", "UPS-A", ""),
    ("power", "UTILITY", "UPS-B", ""),
    ("power", "UPS-A", "PDU-A", ""),
    ("power", "UPS-B", "PDU-B", ""),
    *[("power", pdu, rack, "2N") for rack in ("R1", "R2", "R3") for pdu in ("PDU-A", "PDU-B")],
    ("power", "PDU-A", "R4", ""),
    *[("fluid", pump, "CDU-1", "N+1") for pump in ("P1", "P2", "P3")],
    *[("fluid", "CDU-1", rack, "") for rack in ("R1", "R2", "R3", "R4")],
    ("contains", "R1", "R1-N01", ""),
    ("contains", "R1", "R1-N02", ""),
    ("contains", "R4", "R4-N01", ""),
    ("contains", "H", "H/1", ""),
    ("contains", "H/1", "R1", ""),
    ("contains", "H/1", "R2", ""),
    ("contains", "R1-N01", "R1-N01-GPU0", ""),
    ("fabric", "LEAF-1", "R1-N01", ""),
]
DEVICES = {"R1-N01-GPU0"}


def behind(edges: list[Link], upstream: str) -> dict[str, tuple[int, bool]]:
    """Returns (depth, lost) of everything behind `upstream`."""
    return {down: answer for (up, down), answer in reach(edges, DEVICES).pairs().items() if up == upstream}


def test_a_2n_feed_leaves_racks_degraded_and_takes_the_single_corded_one() -> None:
    """PDU-A feeds R1, R2, R3 together with PDU-B: they stay, without redundancy, and so do their nodes. R4 hangs on
    PDU-A alone: it goes, with its node.
    """
    assert behind(HALL, "PDU-A") == {
        "R1": (1, False),
        "R2": (1, False),
        "R3": (1, False),
        "R1-N01": (2, False),
        "R1-N02": (2, False),
        "R4": (1, True),
        "R4-N01": (2, True),
    }
    # UPS-A stands one step above PDU-A, which it alone feeds: the same, one deeper, and PDU-A itself
    one_deeper = {name: (depth + 1, lost) for name, (depth, lost) in behind(HALL, "PDU-A").items()}
    assert behind(HALL, "UPS-A") == {"PDU-A": (1, True), **one_deeper}
    # PDU-B has no single-corded rack: nobody is lost
    assert {lost for _, lost in behind(HALL, "PDU-B").values()} == {False}
    assert set(behind(HALL, "PDU-B")) == {"R1", "R2", "R3", "R1-N01", "R1-N02"}


def test_with_the_utility_both_feeds_go_and_so_does_every_rack() -> None:
    assert behind(HALL, "UTILITY") == {
        "UPS-A": (1, True),
        "UPS-B": (1, True),
        "PDU-A": (2, True),
        "PDU-B": (2, True),
        **dict.fromkeys(("R1", "R2", "R3", "R4"), (3, True)),
        **dict.fromkeys(("R1-N01", "R1-N02", "R4-N01"), (4, True)),
    }


def test_a_cdu_takes_its_four_racks_whatever_feeds_them() -> None:
    """The four racks have two feeds of power and one of water: without water each is lost."""
    assert behind(HALL, "CDU-1") == {
        **dict.fromkeys(("R1", "R2", "R3", "R4"), (1, True)),
        **dict.fromkeys(("R1-N01", "R1-N02", "R4-N01"), (2, True)),
    }


def test_a_pump_of_n_plus_1_degrades_the_cdu_and_its_racks() -> None:
    answer = behind(HALL, "P2")
    assert answer["CDU-1"] == (1, False)
    assert {name for name, (_, lost) in answer.items() if lost} == set()
    assert set(answer) == {"CDU-1", "R1", "R2", "R3", "R4", "R1-N01", "R1-N02", "R4-N01"}


def test_what_an_element_contains_goes_with_it_down_to_the_nodes() -> None:
    assert behind(HALL, "R1") == {"R1-N01": (1, True), "R1-N02": (1, True)}
    assert behind(HALL, "H")["R1-N02"] == (3, True)
    assert behind(HALL, "R1-N01") == {}  # GPUs make no pairs
    assert behind(HALL, "LEAF-1") == {}  # fabric is no feed


def test_two_networks_do_not_stand_in_for_each_other() -> None:
    edges: list[Link] = [("power", "F", "X", "a"), ("fluid", "C", "X", "a")]
    assert reach(edges).pairs() == {("F", "X"): (1, True), ("C", "X"): (1, True)}


def test_an_edge_that_names_its_redundancy_counts_before_one_that_does_not() -> None:
    """One system knows that A feeds X, another that B can stand in for it."""
    edges: list[Link] = [("power", "A", "X", ""), ("power", "A", "X", "2N"), ("power", "B", "X", "2N")]
    assert reach(edges).pairs() == {("A", "X"): (1, False), ("B", "X"): (1, False)}
    assert reach(edges[1::-1] + edges[2:]).pairs() == reach(edges).pairs()


def test_circles_and_self_loops_are_reported_and_left_out() -> None:
    """SRC feeds A and A feeds B; the tie back from B to A is no source of its own."""
    tie: Link = ("power", "B", "A", "")
    loop: Link = ("power", "A", "A", "")
    closure = reach([("power", "SRC", "A", ""), ("power", "A", "B", ""), tie, loop, ("power", "B", "R", "")])
    assert closure.dropped == (loop, tie)
    assert closure.pairs()["SRC", "R"] == (3, True)
    assert closure.pairs()["SRC", "B"] == (2, True)
    alone = reach([("fluid", "X", "Y", ""), ("fluid", "Y", "X", "")])
    assert (alone.dropped, alone.pairs()) == ((("fluid", "Y", "X", ""),), {("X", "Y"): (1, True)})


def test_a_pdu_inside_the_rack_that_it_feeds_is_above_the_rack() -> None:
    edges: list[Link] = [("contains", "R", "PDU", ""), ("power", "PDU", "R", ""), ("contains", "R", "N", "")]
    closure = reach(edges)
    assert closure.dropped == ()
    assert closure.pairs() == {("PDU", "R"): (1, True), ("PDU", "N"): (2, True), ("R", "N"): (1, True)}


def test_no_edges_give_no_pairs() -> None:
    assert reach([]).pairs() == {}
    assert list(reach([]).batches("s", 1)) == []


def test_rows_carry_site_and_moment() -> None:
    (batch,) = reach([("power", "A", "X", "")]).batches("iad-1", 1_750_000_000_123)
    (row,) = batch.to_pylist()
    assert (row["site"], row["upstream"], row["downstream"], row["depth"], row["lost"]) == ("iad-1", "A", "X", 1, 1)
    assert int(row["made"].timestamp() * 1000) == 1_750_000_000_123
    assert [b.num_rows for b in reach(HALL).batches("s", 1, most=20)][:2] == [20, 20]


@pytest.mark.parametrize("seed", range(30))
def test_any_graph_agrees_with_the_definition(seed: int) -> None:
    """A naive reading of the definition: repeat its rules until nothing changes."""
    rng = np.random.default_rng(seed)
    names = [f"E{n}" for n in range(12)]
    edges = {
        (str(rng.choice(WALKED)), up, down): str(rng.choice(("", "g", "h")))
        for up, down in itertools.combinations(names, 2)
        if rng.random() < 0.25
    }
    links: list[Link] = [(network, up, down, r) for (network, up, down), r in edges.items()]
    want: dict[tuple[str, str], bool] = {}
    for start in names:
        lost, touched = {start}, {start}
        for _ in names:
            for x in names:
                into = [(net, up, r) for net, up, down, r in links if down == x]
                groups: dict[object, list[str]] = {}
                for n, (net, up, r) in enumerate(into):
                    groups.setdefault((net, r) if r and net != "contains" else n, []).append(up)
                if any(all(up in lost for up in ups) for ups in groups.values()):
                    lost.add(x)
                if any(up in touched for _, up, _ in into):
                    touched.add(x)
        want |= {(start, x): x in lost for x in touched - {start}}
    assert {pair: lost for pair, (_, lost) in reach(links).pairs().items()} == want


def test_ten_thousand_racks_take_seconds() -> None:
    """Two trees of power, each of 6 levels above the racks, 2N; CDUs beside them; 18 nodes a rack."""
    edges: list[Link] = []
    for feed in "AB":
        parents = [f"{feed}0"]
        for level, width in enumerate((4, 16, 64, 256, 625), 1):
            here = [f"{feed}{level}-{n}" for n in range(width)]
            edges += [("power", parents[n * len(parents) // width], name, "") for n, name in enumerate(here)]
            parents = here
        edges += [("power", parents[r // 16], f"R{r}", "2N") for r in range(10_000)]
    edges += [("fluid", f"CDU{r // 8}", f"R{r}", "") for r in range(10_000)]
    edges += [("contains", f"R{r}", f"R{r}-N{n}", "") for r in range(10_000) for n in range(18)]
    began = time.perf_counter()
    closure = reach(edges)
    took = time.perf_counter() - began
    # a rack has 2 x 6 elements above it and a CDU, a node has those and its rack; above the racks it is 2 trees
    above = 2 * (4 * 1 + 16 * 2 + 64 * 3 + 256 * 4 + 625 * 5)
    assert len(closure.upstream) == 10_000 * 13 + 180_000 * 14 + above
    assert took < 20  # 1 s on one idle core
