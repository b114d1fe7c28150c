"""Places: what a person may name (site, rack, node, device, board, or another system's name), and how rows match it."""

from __future__ import annotations

from dataclasses import dataclass

from clickhouse_connect.driver.client import Client

from pipeline.store.select import Select
from schemas.tables import DATABASE

_IDENTITIES = f"{DATABASE}.identities ARRAY JOIN rack, node, device, board"
#: Names by which a row is asked for; the board of an instance has its instances under it.
_NAMES = "[{0}site, {0}rack, {0}node, {0}device, {0}board, splitByChar('/', {0}board)[1]]"
#: A device of which a counter is: its board, or its place where it has none.
UNIT = "if(board = '', concat(rack, '\\n', device), board)"


def matches(place: str, alias: str = "") -> str:
    """The condition that a row is of the place; its parameters are those of `Names`."""
    test = "startsWith(v, {place:String})" if place.endswith("*") else "has({places:Array(String)}, v)"
    return f"arrayExists(v -> {test}, {_NAMES.format(alias)})"


@dataclass(frozen=True, slots=True)
class Names:
    """A place as a person names it; `places`: what rows of telemetry may call it; `called`: it, and assets that another
    system calls so.
    """

    place: str
    places: tuple[str, ...]
    called: tuple[str, ...]

    @property
    def parameters(self) -> dict[str, object]:
        return {"place": self.place.rstrip("*"), "places": list(self.places), "called": list(self.called)}


def frames_at(place: str) -> tuple[str, ...]:
    """Conditions that leave only the stored frames that any device of the place is in."""
    found = [Select((column,), _IDENTITIES, (matches(place),)).subquery() for column in ("who", "rack")]
    return f"who IN {found[0]}", f"rack IN {found[1]}"


def units_at(place: str) -> tuple[str, ...]:
    """Conditions that leave the whole counters of devices that were ever at the place: also what they counted where
    they were before, so that each sample's step is known.
    """
    there = Select((UNIT,), _IDENTITIES, (matches(place),)).subquery()
    frames = Select(("who",), _IDENTITIES, (f"{UNIT} IN {there}",)).subquery()
    return f"who IN {frames}", f"{UNIT} IN {there}"


def names_of(client: Client, place: str) -> Names:
    """Looks a place up: telemetry may call it so, or by the asset that another system calls so, or by where the
    inventory has that asset.
    """
    if not place or place.endswith("*"):
        return Names(place, (place,), (place,))
    found = client.query(
        f"SELECT asset FROM {DATABASE}.names FINAL WHERE name = {{place:String}} "
        "ORDER BY toYear(valid_to) = 1970 DESC, valid_from DESC LIMIT 1 BY site, system",
        parameters={"place": place},
    ).result_rows
    called = tuple(dict.fromkeys((place, *(str(row[0]) for row in found))))
    for names in ((place,), called):
        if _seen(client, names):
            return Names(place, names, called)
    rows = client.query(
        "SELECT DISTINCT multiIf(device != '', device, node != '', node, rack != '', rack, hall) AS at "
        f"FROM {DATABASE}.assets FINAL WHERE has({{names:Array(String)}}, asset) AND toYear(valid_to) = 1970 "
        "AND at != ''",
        parameters={"names": list(called)},
    ).result_rows
    return Names(place, tuple(dict.fromkeys((*called, *(str(row[0]) for row in rows)))), called)


def _seen(client: Client, names: tuple[str, ...]) -> bool:
    found = client.query(
        f"SELECT 1 FROM {_IDENTITIES} WHERE {matches('')} LIMIT 1", parameters=Names("", names, names).parameters
    )
    return bool(found.result_rows)
