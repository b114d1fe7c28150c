"""Boards behind dcgm-exporters over time: pods that are renamed, indices that move, two machines of one name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from producers.emission import Emission, Event, SourceFailure
from producers.sources.dcgm.claims import NameClaims, NameClash
from producers.sources.dcgm.endpoint import Endpoint
from producers.sources.dcgm.hosts import StableHosts
from producers.sources.dcgm.page import read
from producers.sources.dcgm.parse import place
from producers.sources.dcgm.source import Dcgm
from schemas.derived import QUALITY
from schemas.derived_stream import Derived
from schemas.frame import Frame
from schemas.inventory import ASSET, NAME
from schemas.jobs import ALLOCATION, JOB


def board(gpu: int, uuid: str, host: str, labels: str = "", temp: float = 50) -> str:
    identity = f'gpu="{gpu}",UUID="{uuid}",pci_bus_id="0{gpu}:00",modelName="NVIDIA H100",Hostname="{host}"{labels}'
    return f"DCGM_FI_DEV_GPU_TEMP{{{identity}}} {temp}\nDCGM_FI_DEV_POWER_USAGE{{{identity}}} 400\n"


#: What an exporter answers at its n-th scrape.
Answers = Callable[[int], str | Exception]


async def scrape(answers: dict[str, Answers], ticks: int, tick_s: float = 0.05) -> tuple[list[list[Emission]], Dcgm]:
    """Returns the emissions of each tick, and the source; `answers` by --endpoint. Exporters answer in the order that
    is the reverse of the configured one.
    """
    endpoints = [Endpoint.parse(spec) for spec in answers]
    by_url = {e.url: answer for e, answer in zip(endpoints, answers.values(), strict=True)}
    asked = dict.fromkeys(by_url, 0)
    order = list(by_url)

    async def fetch(url: str) -> tuple[int, bytes]:
        number = asked[url]
        asked[url] += 1
        for _ in order[order.index(url) :]:
            await asyncio.sleep(0)
        answer = by_url[url](number)
        if isinstance(answer, Exception):
            raise answer
        return 200, answer.encode()

    source = Dcgm(endpoints, tick_s=tick_s, timeout_s=10, ticks=ticks, fetch=fetch)
    rounds: dict[int, list[Emission]] = {}
    stamp = 0
    async for emission in source.emissions():
        if isinstance(emission, Frame):
            stamp = int(emission.ts_ms()[0])
        elif isinstance(emission, SourceFailure):
            stamp = emission.ts_ms
        rounds.setdefault(stamp, []).append(emission)
    return [rounds[at] for at in sorted(rounds)], source


def frames_of(emissions: Sequence[Emission], kind: str = "gpu") -> list[Frame]:
    return [e for e in emissions if isinstance(e, Frame) and e.kind == kind]


def rows_of(emissions: Sequence[Emission], stream: Derived) -> list[dict[str, Any]]:
    return [row for e in emissions if isinstance(e, Event) and e.derived is stream for row in e.batch.to_pylist()]


def identities(emissions: Sequence[Emission]) -> list[tuple[str, str, str, str]]:
    names = ("rack", "node", "device", "board")
    return [row for f in frames_of(emissions) for row in zip(*(f.identity(n) for n in names), strict=True)]


async def test_a_pod_that_is_restarted_under_another_name_serves_the_same_gpu() -> None:
    def pod(number: int) -> str:
        return board(0, "GPU-c", "exporter-abcde" if number < 2 else "exporter-vwxyz")

    rounds, _ = await scrape({"http://h/pod": pod}, 4)
    everything = [e for r in rounds for e in r]
    assert {f.key() for f in frames_of(everything)} == {b"site-1/exporter-abcde"}
    assert set(identities(everything)) == {("exporter-abcde", "exporter-abcde", "exporter-abcde-GPU0", "GPU-c")}
    assert len(frames_of(everything)) == 4
    assert len(rows_of(everything, ASSET)) == 1, "it did not move"
    assert [n["name"] for n in rows_of(rounds[2], NAME)] == ["exporter-abcde/0", "exporter-vwxyz/0"]
    assert {(f.identity("rack")[0], f.identity("node")[0]) for f in frames_of(everything, "endpoint")} == {
        ("", "exporter-abcde")
    }


@pytest.mark.parametrize(
    ("pages", "machines"),
    [
        ([("a", "1 2"), ("b", "1 2")], ["a", "a"]),
        ([("a", "1 2"), ("b", "2 3"), ("c", "3")], ["a", "a", "a"]),  # a board was replaced
        ([("a", "1 2"), ("a", "3 4")], ["a", "a"]),
        ([("a", "1"), ("b", "2"), ("a", "1"), ("c", "2")], ["a", "b", "a", "b"]),  # two machines behind one address
        ([("a", "1"), ("b", "1"), ("b", "9"), ("a", "1")], ["a", "a", "b", "a"]),
        ([("a", ""), ("b", "")], ["a", "b"]),  # no UUIDs: a host name is all there is
    ],
)
def test_a_machine_keeps_its_first_name_as_long_as_its_boards_are_the_same(
    pages: list[tuple[str, str]], machines: list[str]
) -> None:
    hosts = StableHosts()
    found = []
    for host, uuids in pages:
        text = "".join(board(i, uuid, host) for i, uuid in enumerate(uuids.split(" ")))
        found.append(hosts.names(read(text))[host])
    assert found == machines


def test_two_hosts_of_one_page_stay_two_machines() -> None:
    hosts = StableHosts()
    assert hosts.names(read(board(0, "1", "a") + board(0, "2", "b"))) == {"a": "a", "b": "b"}
    assert hosts.names(read(board(0, "1", "a") + board(1, "2", "a") + board(0, "3", "b"))) == {"a": "a", "b": "b"}


async def test_boards_that_move_up_an_index_go_on_as_themselves() -> None:
    def swap(number: int) -> str:
        boards = ["A", "B", "C", "D"] if number == 0 else ["A", "C", "D"]
        return "".join(board(i, f"GPU-{n}", "n1", temp=50 + ord(n)) for i, n in enumerate(boards))

    (before, after), _ = await scrape({"http://h/swap": swap}, 2)
    assert [(d, b) for _, _, d, b in identities(after)] == [
        ("n1-GPU0", "GPU-A"),
        ("n1-GPU1", "GPU-C"),
        ("n1-GPU2", "GPU-D"),
    ]
    for frame in frames_of([*before, *after]):
        assert frame.values("temp_c").tolist() == [50 + ord(b[-1]) for b in frame.identity("board")]
    assert {r["asset"] for r in rows_of(before, ASSET)} == {"GPU-A", "GPU-B", "GPU-C", "GPU-D"}
    opened = [(r["asset"], r["device"]) for r in rows_of(after, ASSET) if r["valid_to"].timestamp() == 0]
    assert opened == [("GPU-C", "n1-GPU1"), ("GPU-D", "n1-GPU2")], "and B is expected where it was"


async def test_an_endpoint_that_answers_late_stays_the_same_row() -> None:
    def late(number: int) -> str:
        return "" if number < 2 else board(0, "GPU-a", "n1")

    rounds, _ = await scrape({"http://h:9400/late": late}, 4)
    rows = [f for r in rounds for f in frames_of(r, "endpoint")]
    assert [f.values("up")[0] for f in rows] == [0, 1]
    assert len({f.key() for f in rows}) == 1, "or a silent row stays behind for ever"
    assert [f.identity("node")[0] for f in rows] == ["h:9400", "n1"]


async def test_of_two_machines_of_one_name_the_later_endpoint_is_refused_with_what_to_do() -> None:
    one, two = "http://u:pw@h/h1", "http://h/h2"
    rounds, source = await scrape(
        {one: lambda _: board(0, "GPU-a", "localhost"), two: lambda _: board(0, "GPU-b", "localhost")}, 3
    )
    everything = [e for r in rounds for e in r]
    assert set(identities(everything)) == {("localhost", "localhost", "localhost-GPU0", "GPU-a")}
    assert len(frames_of(everything)) == 3
    failures = [(e.endpoint, e.reason) for e in everything if isinstance(e, SourceFailure)]
    assert failures == [("http://h/h2", "name-clash")] * 3
    sentence = source.errors["http://h/h2"]
    assert "http://h/h1" in sentence
    assert "localhost-GPU0" in sentence
    assert "--endpoint RACK/NODE=http://h/h2" in sentence
    assert "pw" not in sentence
    up = {
        f.identity("device")[0]: (f.values("up")[0], f.identity("rack")[0]) for f in frames_of(everything, "endpoint")
    }
    assert up == {"http://h/h1": (1, ""), "http://h/h2": (0, "")}
    assert {r["asset"] for r in rows_of(everything, ASSET)} == {"GPU-a"}


async def test_two_endpoints_that_give_a_name_to_different_boards_after_a_place_was_given_are_both_read() -> None:
    rounds, source = await scrape(
        {
            "http://h/h1": lambda _: board(0, "GPU-a", "localhost"),
            "R2/n2=http://h/h2": lambda _: board(0, "GPU-b", "localhost"),
        },
        1,
    )
    assert sorted(identities(rounds[0])) == [
        ("R2", "n2", "n2-GPU0", "GPU-b"),
        ("localhost", "localhost", "localhost-GPU0", "GPU-a"),
    ]
    assert source.errors == {}


def test_a_name_belongs_to_the_first_configured_endpoint_as_long_as_it_gives_it() -> None:
    claims = NameClaims(lasting_ms=10_000)

    def give(endpoint: int, uuid: str, at: int) -> NameClash | None:
        page = read(board(0, uuid, "n1") + board(1, f"{uuid}-other", "n1"))
        for part in page.devices:
            place(part, "R1", "n1")
        return claims.claim(endpoint, page.boards, at)

    assert give(1, "b", 0) is None, "the first does not answer yet"
    assert give(0, "a", 1000) is None, "it has the name from now on"
    assert give(1, "b", 1000) == NameClash(0, "n1-GPU0")
    assert give(0, "a2", 2000) is None, "its board was replaced"
    assert give(1, "a2", 2000) is None, "it is the same board"
    assert give(1, "b", 3000) is None, "which this endpoint gave last"
    assert give(0, "a", 4000) is None
    assert give(1, "b", 14_000) == NameClash(0, "n1-GPU0")
    assert give(1, "b", 14_001) is None, "the first has not given it for a while"
    assert give(1, "", 14_002) is None, "a board without a UUID"


async def test_a_board_that_moved_to_another_endpoint_is_no_clash() -> None:
    rounds, _ = await scrape(
        {
            "R1/n1=http://h/old": lambda n: board(0, "GPU-a", "x") if n == 0 else OSError("gone"),
            "R1/n1=http://h/new": lambda n: OSError("not yet") if n == 0 else board(0, "GPU-a", "x"),
        },
        2,
    )
    assert [len(frames_of(r)) for r in rounds] == [1, 1]
    assert "name-clash" not in {e.reason for r in rounds for e in r if isinstance(e, SourceFailure)}


async def test_every_endpoint_has_a_row_when_it_goes_up_or_down_and_every_five_seconds() -> None:
    def answers(number: int) -> str | Exception:
        return OSError("down") if number == 2 else board(0, "GPU-a", "n7") + 'DCGM_FI_DEV_GPU_TEMP{gpu="0" 3\n'

    rounds, source = await scrape({"http://u:pw@h:9400/m": answers}, 5)
    everything = [e for r in rounds for e in r]
    rows = frames_of(everything, "endpoint")
    assert [f.values("up")[0] for f in rows] == [1, 0, 1]
    assert [f.values("devices")[0] for f in rows] == [1, 0, 1]
    assert [f.values("refused_lines")[0] for f in rows] == [1, 0, 1]
    assert all(f.values("duration_s")[0] >= 0 for f in rows)
    names = ("rack", "node", "device", "model", "board")
    assert {tuple(f.identity(n)[0] for n in names) for f in rows} == {
        ("", "n7", "http://h:9400/m", "dcgm-exporter", "")
    }
    assert source.refused == {"line": 4}
    quality = [(q["reason"], q["rack"], q["count"]) for q in rows_of(everything, QUALITY)]
    assert quality == [("line", "n7", 1), ("line", "n7", 1), ("line", "n7", 1)]


async def test_a_row_of_an_endpoint_comes_at_least_every_five_seconds() -> None:
    source = Dcgm([Endpoint("http://h/m", "R1", "n1")], tick_s=2.0)
    (target,) = source._targets
    page = read(board(0, "GPU-a", "n1"))
    target.take(page, 0)
    sent = [at for at in range(0, 20_000, 2000) if target.rows(at, 0.1, page)]
    assert max(np.diff([*sent, 20_000])) <= 5000
    assert sent == [0, 4000, 8000, 12000, 16000]


@pytest.mark.parametrize(
    ("spec", "place"),
    [("http://h:9400/m", ("", "h:9400")), ("R1=http://h/m", ("R1", "h")), ("R1/n1=http://h/m", ("R1", "n1"))],
)
async def test_an_endpoint_that_never_answered_is_known_by_its_place_or_its_address(
    spec: str, place: tuple[str, str]
) -> None:
    rounds, _ = await scrape({spec: lambda _: OSError("nobody there")}, 1)
    (row,) = frames_of(rounds[0], "endpoint")
    assert (row.identity("rack")[0], row.identity("node")[0]) == place
    assert row.values("up")[0] == 0


async def test_jobs_follow_the_labels_and_a_failed_scrape_ends_none() -> None:
    job = ',hpc_job="7"'

    def answers(number: int) -> str | Exception:
        if number == 1:
            return OSError("down")
        return board(0, "GPU-a", "n1", job if number < 3 else "") + board(1, "GPU-b", "n1", job if number < 3 else "")

    rounds, _ = await scrape({"R1=http://h/m": answers}, 5)
    held = [[(r["devices"], r["ended"].timestamp() > 0) for r in rows_of(e, ALLOCATION)] for e in rounds]
    devices = ["n1-GPU0", "n1-GPU1"]
    assert held == [[(devices, False)], [], [], [(devices, True)], []]
    assert [[r["state"] for r in rows_of(e, JOB)] for e in rounds] == [["RUNNING"], [], [], ["ENDED"], []]
