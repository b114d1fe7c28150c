"""Rows of the inventory, of jobs and of roll-ups, by hand: the shortest way to a store whose answers are known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from clickhouse_connect.driver.client import Client

from pipeline.sink.array_rows import frame_table, identities_table
from pipeline.sink.device_sets import DeviceSets
from pipeline.sink.stored_message import StoredMessage
from pipeline.store import places
from pipeline.store.named_queries import QUESTIONS
from pipeline.store.tables import IDENTITIES, TABLES
from schemas.derived import ROLLUPS
from schemas.derived_stream import DERIVED
from schemas.frame import Frame, build

NEVER = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: A row's worth of what a stream's column holds when nobody names it, by the column's type.
_BLANK: dict[str, Any] = {"timestamp[ms, tz=UTC]": NEVER, "string": "", "list<item: string>": []}


@dataclass(frozen=True, slots=True)
class Hold:
    """`devices`: names or boards; none: all of the node. `seen`: when its source had it last, now if it lasts."""

    job: str
    rack: str
    node: str
    started: dt.datetime
    ended: dt.datetime = NEVER
    devices: tuple[str, ...] = ()
    share: float = 1.0
    first_rank: int = 0
    seen: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU at its place: rack, node, index of the node, board."""

    rack: str
    node: str
    index: int
    board: str = ""

    @property
    def device(self) -> str:
        return f"{self.node}-GPU{self.index}"


def put(client: Client, stream: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts rows of a derived stream into its table; columns that a row leaves out are empty, or 1970."""
    known = DERIVED[stream]
    names = [name for name, _ in known.columns]
    full = [[row.get(name, _BLANK.get(str(dtype), 0)) for name, dtype in known.columns] for row in rows]
    client.insert(f"gigawatch.{known.table}", full, column_names=names)


def hold(client: Client, holds: Sequence[Hold], site: str = "s") -> None:
    rows = [
        {
            **{name: getattr(h, name) for name in ("job", "rack", "node", "started", "ended", "share", "first_rank")},
            "seen": h.seen or (h.ended if h.ended != NEVER else dt.datetime.now(dt.UTC)),
            "site": site,
            "scheduler": "slurm",
            "devices": list(h.devices),
        }
        for h in holds
    ]
    put(client, "allocation", rows)


def who(gpus: Sequence[Gpu], site: str = "s") -> dict[str, list[str]]:
    return {
        "site": [site] * len(gpus),
        "rack": [g.rack for g in gpus],
        "node": [g.node for g in gpus],
        "device": [g.device for g in gpus],
        "model": ["H100"] * len(gpus),
        "board": [g.board for g in gpus],
    }


def answer(client: Client, name: str, about: str = "", table: int = 0) -> list[dict[str, Any]]:
    """Rows of a named question, or of one of its further tables."""
    question = QUESTIONS[name]
    asked = (question, *question.more)[table]
    given = {"about": about, **places.names_of(client, about).parameters} if question.argument else None
    found = client.query(asked.sql.replace("{limit}", "100"), parameters=given)
    return [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]


class Filler:
    """Stores frames of samples, and roll-ups of 10 s, as the sink does."""

    def __init__(self, client: Client) -> None:
        self._client, self._sets, self._offset = client, dict[str, DeviceSets](), 0

    def samples(self, at: dt.datetime, gpus: Sequence[Gpu], **values: Sequence[float]) -> None:
        for rack in dict.fromkeys(g.rack for g in gpus):
            here = [k for k, g in enumerate(gpus) if g.rack == rack]
            mine = {name: [v[k] for k in here] for name, v in values.items()}
            self._store("gpu", build("gpu", _ms(at), who([gpus[k] for k in here]), mine))

    def pane(self, end: dt.datetime, gpus: Sequence[Gpu], **values: Sequence[float]) -> None:
        """`values` are statistics such as `util_pct_mean`."""
        for rack in dict.fromkeys(g.rack for g in gpus):
            here = [k for k, g in enumerate(gpus) if g.rack == rack]
            columns: dict[str, Any] = who([gpus[k] for k in here])
            columns |= {name: np.array([v[k] for k in here]) for name, v in values.items()}
            self.roll("gpu", end, columns)

    def roll(
        self, kind: str, end: dt.datetime, columns: Mapping[str, Any], samples: int = 10, tier: str = "10s"
    ) -> None:
        size = len(columns["device"])
        blank = {name: [""] * size for name in ("site", "rack", "node", "model", "board")}
        stamps = {"ts": np.full(size, _ms(end)), "samples": [samples] * size}
        self._store(f"{kind}_{tier}", ROLLUPS[kind].build({**blank, **stamps, **columns}))

    def _store(self, table_name: str, content: Frame | Any) -> None:
        table = TABLES[table_name]
        known = self._sets.setdefault(table_name, DeviceSets(table.by_rack))
        self._offset += 1
        body = frame_table(table, [StoredMessage(content, 0, self._offset, 0)], "log", known)
        self._client.insert_arrow(f"gigawatch.{IDENTITIES.name}", identities_table(known.new))
        known.mark_stored(dict(known.new))
        body = body.select([name for name in body.column_names if name in table.inserted])
        self._client.insert_arrow(f"gigawatch.{table.stored_as}", body)


def _ms(moment: dt.datetime) -> int:
    return round(moment.timestamp() * 1000)
