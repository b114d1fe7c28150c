"""The inventory: which devices ought to report, from what was declared and what was seen. Pure; times are handed in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.compute.devices import Devices
from pipeline.compute.timing import END_OF_TIME
from schemas.arrays import Bools
from schemas.catalogue import KINDS
from schemas.derived_stream import columns_of
from schemas.inventory import OPERATOR, SEEN


class Asset(NamedTuple):
    """One origin's row of ASSET. `valid_to` is END_OF_TIME while it has no end."""

    site: str
    asset: str
    kind: str
    model: str
    rack: str
    node: str
    device: str
    origin: str
    state: str
    valid_from: int
    valid_to: int

    def is_valid(self, at_ms: int) -> bool:
        return self.valid_from <= at_ms < self.valid_to

    @property
    def board(self) -> str:
        """Its id where that is not its name or place: a UUID, serial or asset id."""
        return "" if self.asset in (self.device, self.node, self.rack) else self.asset

    @property
    def identity(self) -> dict[str, str]:
        return {
            "site": self.site,
            "rack": self.rack,
            "node": self.node,
            "device": self.device or self.asset,
            "model": self.model,
            "board": self.board,
        }


class Inventory:
    """Assets by (site, asset), each with the rows of its origins. `version` changes with any row."""

    def __init__(self) -> None:
        self._assets: dict[tuple[str, str], dict[tuple[str, int], Asset]] = {}
        self._operated: dict[tuple[str, str], list[Asset]] = {}
        self.version = 0
        self._kinds: tuple[int, set[str]] = (-1, set())

    def __len__(self) -> int:
        return len(self._assets)

    def apply(self, batch: pa.RecordBatch) -> list[Asset]:
        """Takes rows of ASSET, returns those that are news; of one asset, origin and `valid_from` the last counts."""
        news = []
        for values in zip(*columns_of(batch, *Asset._fields), strict=True):
            asset = Asset(*values)
            asset = asset._replace(valid_to=asset.valid_to or END_OF_TIME)
            rows = self._assets.setdefault((asset.site, asset.asset), {})
            key = asset.origin, asset.valid_from
            if rows.get(key) == asset:
                continue
            rows[key] = asset
            news.append(asset)
            if asset.origin == OPERATOR:
                held = self._operated.setdefault((asset.site, asset.asset), [])
                held[:] = [a for a in held if a.valid_from != asset.valid_from] + [asset]
        self.version += bool(news)
        return news

    def kinds(self) -> set[str]:
        """Returns the kinds of the assets."""
        if self._kinds[0] != self.version:
            self._kinds = self.version, {a.kind for rows in self._assets.values() for a in rows.values()}
        return self._kinds[1]

    def names_of(self, kinds: Collection[str]) -> set[str]:
        """Returns the names and ids of the devices of these kinds; a node itself has no device name."""
        found = (a for rows in self._assets.values() for a in rows.values() if a.kind in kinds and a.device)
        return {name for a in found for name in (a.device, a.asset)}

    def next_change_ms(self, after_ms: int) -> int:
        """Returns the next time at which a row begins or ends to be valid; END_OF_TIME when none does."""
        times = (t for rows in self._assets.values() for a in rows.values() for t in (a.valid_from, a.valid_to))
        return min((t for t in times if t > after_ms), default=END_OF_TIME)

    def declared(self, kind: str, at_ms: int) -> Iterator[Asset]:
        """Yields what is valid of every asset of a kind that has a place and is active: the devices to expect."""
        for rows in self._assets.values():
            asset = _effective(rows.values(), at_ms)
            named = asset is not None and (asset.device or (asset.board and KINDS[kind].held == "device"))
            if asset is not None and named and asset.kind == kind and asset.state == "active":
                yield asset

    def is_off(self, site: str, names: Iterable[str], at_ms: int) -> bool:
        """Whether an operator has put any of these (a device, board, node or rack) into maintenance, or retired it."""
        if not self._operated:
            return False
        for name in names:
            newest = max(
                (a for a in self._operated.get((site, name), ()) if a.is_valid(at_ms)),
                key=lambda a: a.valid_from,
                default=None,
            )
            if newest is not None and newest.state != "active":
                return True
        return False

    def expected(self, kind: str, devices: Devices, at_ms: int) -> Bools:
        """Returns bool[devices]: which ought to report. One that no inventory knows, and that was heard here, ought to;
        one that is retired, in maintenance, no longer valid or known to be in another rack ought not.
        """
        out = np.full(len(devices), KINDS[kind].expected)
        if not self._assets or not KINDS[kind].expected:
            return out
        columns = devices.columns
        names = ("site", "rack", "node", "device", "board")
        for row, (site, rack, node, device, board) in enumerate(zip(*(columns[n] for n in names), strict=True)):
            of_board = self._assets.get((site, board), {}) if board else {}
            of_place = self._assets.get((site, device), {})
            known = [*of_board.values(), *(a for a in of_place.values() if a.rack in ("", rack))]
            known = [a for a in known if a.origin != OPERATOR]
            if known:
                asset = _effective(known, at_ms)
                out[row] = asset is not None and asset.state == "active" and asset.rack in ("", rack)
            if out[row] and self.is_off(site, (board, device, node, rack), at_ms):
                out[row] = False
        return out

    def differences(self, news: Iterable[Asset]) -> Iterator[tuple[Asset, str]]:
        """Yields (row, name of the field) where a row that is news differs from what another origin declares."""
        for asset in news:
            for other in self._assets[asset.site, asset.asset].values():
                if other.origin in (asset.origin, OPERATOR) or asset.origin == OPERATOR:
                    continue
                if not (other.is_valid(asset.valid_from) or asset.is_valid(other.valid_from)):
                    continue
                for name in ("rack", "node", "model"):
                    mine, theirs = getattr(asset, name), getattr(other, name)
                    if mine and theirs and mine != theirs:
                        yield asset, name


def _effective(rows: Iterable[Asset], at_ms: int) -> Asset | None:
    """Returns the row that counts: declared before seen, the newest of each; None when none is valid."""
    valid = [a for a in rows if a.origin != OPERATOR and a.is_valid(at_ms)]
    declared_before = [a for a in rows if a.origin not in (OPERATOR, SEEN)]
    chosen = [a for a in valid if a.origin != SEEN] if declared_before else valid
    return max(chosen, key=lambda a: a.valid_from, default=None)
