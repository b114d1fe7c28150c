"""Rows of an inventory that a source knows now, and the events that follow from what it knew before. Pure."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from producers.emission import Event
from schemas.catalogue import KINDS
from schemas.derived_stream import Derived
from schemas.inventory import ASSET, EDGE, NAME

#: Of an edge whose capacity nobody states, W.
UNKNOWN_W = math.nan
MOST_ROWS = 20_000  # of one event
#: Kinds of assets: those of the catalogue, places, and equipment between the utility and the chip.
ASSET_KINDS = (
    *KINDS,
    *("site", "hall", "row", "rack", "cpu", "dpu", "nic", "nvswitch", "switch", "server"),
    *("utility", "generator", "transformer", "switchgear", "ats", "ups", "busway", "breaker", "feed", "tap", "pdu"),
    *("bess", "hx", "tank", "ahu", "crac", "crah", "damper", "fan"),
    *("panel", "shelf", "psu", "meter", "plant", "chiller", "tower", "cdu", "pump", "valve", "loop", "sensor", "other"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Declared(ABC):
    """`valid_from` and `valid_to` in ms since 1970; 0: not stated. `since` is the moment from which a row without a
    `valid_from` is valid when it is new or has changed, 0 for now: when the file was written, say.
    """

    site: str
    valid_from: int = 0
    valid_to: int = 0
    since: int = field(default=0, compare=False)

    @property
    @abstractmethod
    def stream(self) -> Derived: ...

    @property
    @abstractmethod
    def key(self) -> tuple[str, ...]:
        """What the row is about: rows of one key follow each other in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRow(_Declared):
    """A row of ASSET."""

    asset: str
    kind: str = ""
    model: str = ""
    serial: str = ""
    hall: str = ""
    row: str = ""
    rack: str = ""
    slot: str = ""
    node: str = ""
    device: str = ""
    state: str = "active"
    reason: str = ""

    @property
    def stream(self) -> Derived:
        return ASSET

    @property
    def key(self) -> tuple[str, ...]:
        return ("asset", self.site, self.asset)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRow(_Declared):
    """A row of NAME."""

    system: str
    name: str
    asset: str

    @property
    def stream(self) -> Derived:
        return NAME

    @property
    def key(self) -> tuple[str, ...]:
        return ("name", self.site, self.system, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeRow(_Declared):
    """A row of EDGE; `capacity_w` is UNKNOWN_W where nobody states it."""

    network: str
    upstream: str
    downstream: str
    capacity_w: float = UNKNOWN_W
    redundancy: str = ""

    @property
    def stream(self) -> Derived:
        return EDGE

    @property
    def key(self) -> tuple[str, ...]:
        return ("edge", self.site, self.network, self.upstream, self.downstream)


DeclaredRow = AssetRow | NameRow | EdgeRow
#: A row, and from when to when it is valid.
_Dated = tuple[DeclaredRow, int, int]


class DeclaredRows:
    """What a source of `origin` has emitted. A row is known by its key and its stated `valid_from`: it goes out when it
    is new and when it changes; what it replaces, and what is gone, goes out once more with the moment of its end.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._held: dict[tuple[object, ...], DeclaredRow] = {}
        #: As emitted, with the `valid_from` that was made up where none was stated.
        self._from: dict[tuple[object, ...], int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def update(
        self, rows: Iterable[DeclaredRow], now_ms: int, keep: Callable[[DeclaredRow], bool] = lambda _: False
    ) -> Iterator[Event]:
        """Yields the events of a new reading. A row that is gone stays as it is where `keep` says so: its file could
        not be read as a whole.
        """
        out: list[_Dated] = []
        there: set[tuple[object, ...]] = set()
        for row in rows:
            number = (*row.key, row.valid_from)
            there.add(number)
            old = self._held.get(number)
            if old == row:
                continue
            begin = row.valid_from or min(row.since or now_ms, now_ms)
            if old is not None and not row.valid_from:
                before = self._from[number]
                begin = begin if begin > before else max(now_ms, before + 1)
                out.append((old, before, begin))
            self._held[number], self._from[number] = row, begin
            out.append((row, begin, row.valid_to))
        gone = [n for n, row in self._held.items() if n not in there and not keep(row)]
        for number in gone:
            row, begin = self._held.pop(number), self._from.pop(number)
            if not row.valid_to or row.valid_to > now_ms:
                out.append((row, begin, max(now_ms, begin)))
        yield from _events(out, self._origin, now_ms)


def events(rows: Iterable[DeclaredRow], origin: str, now_ms: int) -> Iterator[Event]:
    """Yields rows as events, as they state their times; at most MOST_ROWS of one stream in each."""
    yield from _events([(row, row.valid_from, row.valid_to) for row in rows], origin, now_ms)


def _events(rows: Iterable[_Dated], origin: str, now_ms: int) -> Iterator[Event]:
    by_stream: dict[str, list[_Dated]] = defaultdict(list)
    for dated in rows:
        by_stream[dated[0].stream.name].append(dated)
    for same in by_stream.values():
        stream = same[0][0].stream
        for begin in range(0, len(same), MOST_ROWS):
            part = same[begin : begin + MOST_ROWS]
            made = {
                "seen": [now_ms] * len(part),
                "origin": [origin] * len(part),
                "valid_from": [first for _, first, _ in part],
                "valid_to": [last for _, _, last in part],
            }
            own = {name: [getattr(row, name) for row, _, _ in part] for name in stream.names if name not in made}
            yield Event(stream, stream.build(own | made))


#: Kinds of assets that are places themselves; edges know them by their names as places.
PLACES = ("hall", "row", "rack", "node")


def contained(assets: Iterable[AssetRow]) -> list[EdgeRow]:
    """Returns the edges `contains` that follow from places: hall > row > rack > node > device, each as far as the
    asset states it. A row is named `HALL/ROW`, since halls number their rows alike; other places bear unique names.
    """
    found: dict[tuple[str, str, str], EdgeRow] = {}
    for asset in assets:
        if asset.state == "retired":
            continue
        row = f"{asset.hall}/{asset.row}" if asset.hall and asset.row else asset.row
        inside = "" if asset.kind in PLACES else asset.asset
        chain = [name for name in (asset.hall, row, asset.rack, asset.node, inside) if name]
        for upstream, downstream in pairwise(chain):
            if (key := (asset.site, upstream, downstream)) not in found:
                found[key] = EdgeRow(
                    site=asset.site, network="contains", upstream=upstream, downstream=downstream, since=asset.since
                )
    return list(found.values())
