"""The lines of an inventory file as rows: columns, values and mistakes of CSV and TOML alike. Pure."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from producers.sources.declared import ASSET_KINDS, PLACES, UNKNOWN_W, AssetRow, DeclaredRow, EdgeRow, NameRow
from schemas.errors import GigawatchError
from schemas.inventory import NETWORKS, STATES

#: What a file of each form must have to be recognised, and what it may have.
FORMS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "edges": (("network", "upstream", "downstream"), ("capacity_kw", "redundancy", "from", "to")),
    "names": (("system", "name", "asset"), ("from", "to")),
    "assets": (
        ("kind",),
        (
            *("asset", "model", "serial", "hall", "row", "rack", "slot", "node", "device"),
            *("state", "from", "to", "reason"),
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at one place of a file, `racks.csv, line 7`, and what to write instead."""

    where: str
    column: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}{f', column {self.column}' if self.column else ''}: {self.what}"


class InvalidCell(GigawatchError, ValueError):
    """A cell that cannot be taken: its column, and a sentence."""

    def __init__(self, column: str, what: str) -> None:
        super().__init__(f"column {column}: {what}")
        self.column, self.what = column, what


def nearest(word: str, known: Collection[str]) -> str:
    """Returns `; did you mean 'x'?` where a known word is near, and all known words where they are few."""
    found = difflib.get_close_matches(word.lower(), [k.lower() for k in known], 1, 0.6)
    hint = f"; did you mean {found[0]!r}?" if found else ""
    return hint + (f" It is one of {', '.join(known)}" if len(known) <= 12 or not found else "")


def one_of(column: str, word: str, known: Collection[str], what: str) -> str:
    """Returns `word` in lower case when it is known. Raises InvalidCell."""
    if word.lower() in known:
        return word.lower()
    raise InvalidCell(column, f"{word!r} is no {what}{nearest(word, known)}")


def moment_ms(column: str, text: str) -> int:
    """Returns an ISO date or time in ms since 1970, UTC where it names no zone; 0 for none. Raises InvalidCell."""
    if not text:
        return 0
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidCell(column, f"{text!r} is no time such as 2026-11-25 or 2026-11-25T08:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return round(moment.timestamp() * 1000)


def rows_of(form: str, cells: Mapping[str, str], site: str, since_ms: int) -> list[DeclaredRow]:
    """Returns the rows that one line of a file of this form stands for. Raises InvalidCell."""
    for column in FORMS[form][0]:
        if not cells.get(column):
            raise InvalidCell(column, "is empty")
    begin, end = moment_ms("from", cells.get("from", "")), moment_ms("to", cells.get("to", ""))
    if begin and end and end <= begin:
        raise InvalidCell("to", f"{cells['to']} is not after {cells['from']}")
    if form == "assets":
        return list(_asset(cells, site, since_ms, begin, end))
    when = {"valid_from": begin, "valid_to": end, "since": since_ms}
    if form == "names":
        return [NameRow(site=site, system=cells["system"], name=cells["name"], asset=cells["asset"], **when)]
    if cells["upstream"] == cells["downstream"]:
        raise InvalidCell("downstream", f"{cells['downstream']!r} feeds itself")
    return [
        EdgeRow(
            site=site,
            network=one_of("network", cells["network"], NETWORKS, "network"),
            upstream=cells["upstream"],
            downstream=cells["downstream"],
            capacity_w=_capacity_w(cells.get("capacity_kw", "")),
            redundancy=cells.get("redundancy", ""),
            **when,
        )
    ]


def _capacity_w(text: str) -> float:
    if not text:
        return UNKNOWN_W
    try:
        capacity = float(text)
    except ValueError:
        capacity = -1.0
    if not 0 < capacity < 1e9:
        raise InvalidCell("capacity_kw", f"{text!r} is no number of kW above 0")
    return capacity * 1000


def _asset(cells: Mapping[str, str], site: str, since_ms: int, begin: int, end: int) -> Iterator[DeclaredRow]:
    """Yields the asset: in maintenance or retired from one time to another, it is active before and afterwards."""
    kind = one_of("kind", cells["kind"], ASSET_KINDS, "kind")
    own = cells.get(kind if kind in PLACES else "device", "")
    if kind == "row" and own and cells.get("hall"):
        own = f"{cells['hall']}/{own}"
    name = cells.get("asset") or own
    if not name:
        raise InvalidCell("asset", f"names nothing: give asset or {kind if kind in PLACES else 'device'}")
    state = one_of("state", cells.get("state") or STATES[0], STATES, "state")
    fields = {c: cells.get(c, "") for c in ("model", "serial", "hall", "row", "rack", "slot", "node", "device")}
    if kind not in PLACES:
        fields["device"] = fields["device"] or name
    elif kind != "row":
        fields[kind] = fields[kind] or name
    reason = cells.get("reason", "")
    whole = AssetRow(
        site=site,
        asset=name,
        kind=kind,
        state=state,
        reason=reason,
        since=since_ms,
        **fields,  # type: ignore[arg-type]
    )
    if own and own != name and kind != "row":
        yield NameRow(site=site, system="inventory", name=own, asset=name, since=since_ms)
    if state == STATES[0]:
        yield replace(whole, valid_from=begin, valid_to=end)
        return
    active = replace(whole, state=STATES[0], reason="")
    if begin > since_ms:
        yield replace(active, valid_to=begin)
    yield replace(whole, valid_from=begin, valid_to=end)
    if end:
        yield replace(active, valid_from=end)
