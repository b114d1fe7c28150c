"""Places: what a person may name (site, rack, node, device, board, or another system's name), and how rows match it."""

from __future__ import annotations

from clickhouse_connect.driver.client import Client

from pipeline.store.select import Select
from schemas.tables import DATABASE

_IDENTITIES = f"{DATABASE}.identities ARRAY JOIN rack, node, device, board"
#: Names by which a row is asked for; the board of an instance has its instances under it.
_NAMES = "[{0}site, {0}rack, {0}node, {0}device, {0}board, splitByChar('/', {0}board)[1]]"
#: A device of which a counter is: its board, or its place where it has none.
UNIT = "if(board = '', concat(rack, '\\n', device), board)"


def matches(place: str, alias: str = "") -> str:
    """The condition that a row is of the place; its parameters are those of `parameters`."""
    test = "startsWith(v, {place:String})" if place.endswith("*") else "has({places:Array(String)}, v)"
    return f"arrayExists(v -> {test}, {_NAMES.format(alias)})"


def parameters(place: str, known_as: list[str]) -> dict[str, object]:
    return {"place": place.rstrip("*"), "places": known_as}


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


def known_as(client: Client, place: str) -> list[str]:
    """What rows may call the place: itself where telemetry knows it, else the asset that another system calls so, else
    where the inventory has that asset.
    """
    if not place or place.endswith("*") or _seen(client, [place]):
        return [place]
    assets = [
        str(row[0])
        for row in client.query(
            f"SELECT asset FROM {DATABASE}.names FINAL WHERE name = {{place:String}} "
            "ORDER BY toYear(valid_to) = 1970 DESC, valid_from DESC LIMIT 1 BY site, system",
            parameters={"place": place},
        ).result_rows
    ]
    names = list(dict.fromkeys([place, *assets]))
    if _seen(client, names):
        return names
    rows = client.query(
        "SELECT DISTINCT multiIf(device != '', device, node != '', node, rack != '', rack, hall) AS at "
        f"FROM {DATABASE}.assets FINAL WHERE has({{names:Array(String)}}, asset) AND toYear(valid_to) = 1970 "
        "AND at != ''",
        parameters={"names": names},
    ).result_rows
    return list(dict.fromkeys([*names, *(str(row[0]) for row in rows)]))


def _seen(client: Client, names: list[str]) -> bool:
    test = matches("")
    found = client.query(f"SELECT 1 FROM {_IDENTITIES} WHERE {test} LIMIT 1", parameters=parameters("", names))
    return bool(found.result_rows)
