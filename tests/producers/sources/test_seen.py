"""What a source has seen, as inventory."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from producers.emission import Event
from producers.sources.seen import SeenAssets, Sighting
from schemas.inventory import ASSET, NAME

C = Sighting("GPU-C", "gpu", "H100", "R1", "n1", "n1-GPU2", names=(("dcgm", "n1/2"), ("pci", "n1/03")))
D = Sighting("GPU-D", "gpu", "H100", "R1", "n1", "n1-GPU3", names=(("dcgm", "n1/3"), ("pci", "n1/04")))


def rows_of(events: list[Event], name: str) -> list[dict[str, Any]]:
    """Rows of one stream, times as ms."""
    return [
        {k: round(v.timestamp() * 1000) if isinstance(v, datetime) else v for k, v in row.items()}
        for event in events
        if event.derived.name == name
        for row in event.batch.to_pylist()
    ]


def places(events: list[Event]) -> list[tuple[str, str, int, int]]:
    return [(r["asset"], r["device"], r["valid_from"], r["valid_to"]) for r in rows_of(events, ASSET.name)]


def names(events: list[Event]) -> list[tuple[str, str, str, int, int]]:
    return [(r["system"], r["name"], r["asset"], r["valid_from"], r["valid_to"]) for r in rows_of(events, NAME.name)]


def test_a_device_is_an_asset_and_has_its_names_from_first_sight() -> None:
    seen = SeenAssets("s")
    first = seen.update([C], 1000)
    (row,) = rows_of(first, ASSET.name)
    assert (row["site"], row["asset"], row["kind"], row["model"]) == ("s", "GPU-C", "gpu", "H100")
    assert (row["rack"], row["node"], row["device"], row["origin"], row["state"]) == (
        "R1",
        "n1",
        "n1-GPU2",
        "seen",
        "active",
    )
    assert (row["valid_from"], row["valid_to"]) == (1000, 0)
    assert names(first) == [("dcgm", "n1/2", "GPU-C", 1000, 0), ("pci", "n1/03", "GPU-C", 1000, 0)]
    assert seen.update([C], 2000) == []


def test_boards_that_move_up_an_index_keep_their_rows_straight() -> None:
    seen = SeenAssets("s")
    seen.update([C, D], 1000)
    moved = [
        replace(C, device="n1-GPU1", names=(("dcgm", "n1/1"), ("pci", "n1/03"))),
        replace(D, device="n1-GPU2", names=(("dcgm", "n1/2"), ("pci", "n1/04"))),
    ]
    news = seen.update(moved, 5000)
    assert places(news) == [
        ("GPU-C", "n1-GPU2", 1000, 5000),
        ("GPU-C", "n1-GPU1", 5000, 0),
        ("GPU-D", "n1-GPU3", 1000, 5000),
        ("GPU-D", "n1-GPU2", 5000, 0),
    ]
    assert names(news) == [
        ("dcgm", "n1/2", "GPU-C", 1000, 5000),
        ("dcgm", "n1/1", "GPU-C", 5000, 0),
        ("dcgm", "n1/3", "GPU-D", 1000, 5000),
        ("dcgm", "n1/2", "GPU-D", 5000, 0),
    ]


def test_a_name_that_goes_over_to_another_board_ends_for_the_first() -> None:
    seen = SeenAssets("s")
    seen.update([C], 1000)
    other = replace(C, asset="GPU-X")
    assert names(seen.update([other], 2000)) == [
        ("dcgm", "n1/2", "GPU-C", 1000, 2000),
        ("dcgm", "n1/2", "GPU-X", 2000, 0),
        ("pci", "n1/03", "GPU-C", 1000, 2000),
        ("pci", "n1/03", "GPU-X", 2000, 0),
    ]


def test_an_asset_known_by_its_place_ends_when_its_board_is_known() -> None:
    seen = SeenAssets("s")
    seen.update([Sighting("n1-GPU1", "gpu", device="n1-GPU1", names=(("nvml", "n1/1"),))], 1000)
    closed = seen.close("n1-GPU1", 4000)
    assert places(closed) == [("n1-GPU1", "n1-GPU1", 1000, 4000)]
    assert names(closed) == [("nvml", "n1/1", "n1-GPU1", 1000, 4000)]
    assert seen.close("n1-GPU1", 5000) == []


def test_a_change_of_names_alone_moves_nothing() -> None:
    seen = SeenAssets("s")
    seen.update([C], 1000)
    news = seen.update([replace(C, names=(("dcgm", "pod-b/2"), ("pci", "n1/03")))], 2000)
    assert places(news) == []
    assert names(news) == [("dcgm", "n1/2", "GPU-C", 1000, 2000), ("dcgm", "pod-b/2", "GPU-C", 2000, 0)]
