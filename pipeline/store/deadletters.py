"""Dead letters in the store: found by id, reason or topic, and marked as replayed or dropped."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from clickhouse_connect.driver.client import Client

from schemas.deadletter import DeadLetter
from schemas.tables import DATABASE

KEPT, REPLAYED, DROPPED = "kept", "replayed", "dropped"
_OF = (
    f"FROM (SELECT * FROM {DATABASE}.dead_letters FINAL) AS d LEFT JOIN (SELECT id, state FROM "
    f"{DATABASE}.dead_letter_marks FINAL) AS m ON d.id = m.id"
)
_STATE = f"if(m.state = '', '{KEPT}', m.state)"


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters: `ids` (or beginnings of them), `reason`, `topic`; empty `states` is any."""

    ids: tuple[str, ...] = ()
    reason: str = ""
    topic: str = ""
    states: tuple[str, ...] = (KEPT,)

    def where(self) -> tuple[str, dict[str, object]]:
        """Returns (WHERE clause or nothing, its parameters)."""
        parts = [
            (self.reason, "d.reason = {reason:String}"),
            (self.topic, "d.topic = {topic:String}"),
            (self.states, f"{_STATE} IN {{states:Array(String)}}"),
            (self.ids, "arrayExists(x -> startsWith(d.id, x), {ids:Array(String)})"),
        ]
        found = [sql for given, sql in parts if given]
        return (" WHERE " + " AND ".join(found) if found else ""), {
            "reason": self.reason,
            "topic": self.topic,
            "states": list(self.states),
            "ids": list(self.ids),
        }


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A dead letter as a list shows it, without its bytes."""

    id: str
    ts: dt.datetime
    topic: str
    partition: int
    offset: int
    size: int
    reason: str
    state: str
    detail: str


def listed(client: Client, wanted: DeadLetterFilter, limit: int = 50) -> list[DeadLetterRow]:
    """Returns the newest first."""
    where, parameters = wanted.where()
    rows = client.query(
        f"SELECT d.id, d.ts, d.topic, d.partition, d.offset, d.bytes, d.reason, {_STATE}, d.detail {_OF}{where} "
        f"ORDER BY d.ts DESC, d.offset DESC LIMIT {limit:d}",
        parameters=parameters,
    ).result_rows
    return [DeadLetterRow(*row) for row in rows]


def counted(client: Client, wanted: DeadLetterFilter) -> int:
    """Returns how many there are."""
    where, parameters = wanted.where()
    return int(client.query(f"SELECT count() {_OF}{where}", parameters=parameters).result_rows[0][0])


def with_bytes(client: Client, wanted: DeadLetterFilter, limit: int = 1000) -> list[DeadLetter]:
    """Returns dead letters with their bytes, oldest first, in the order of their log."""
    where, parameters = wanted.where()
    rows = client.query(
        "SELECT d.topic, d.partition, d.offset, toUnixTimestamp64Milli(d.ts), d.value, d.reason, d.detail, "
        f"d.kafka_log {_OF}{where} "
        f"ORDER BY d.ts, d.topic, d.partition, d.offset LIMIT {limit:d}",
        parameters=parameters,
        column_formats={"d.value": "bytes", "value": "bytes"},
    ).result_rows
    return [DeadLetter(*row) for row in rows]


def mark(client: Client, ids: Sequence[str], state: str) -> None:
    """Puts the dead letters into `state`: REPLAYED or DROPPED."""
    now = dt.datetime.now(dt.UTC)
    client.insert(f"{DATABASE}.dead_letter_marks", [[now, i, state] for i in ids], column_names=["ts", "id", "state"])
