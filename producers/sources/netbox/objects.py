"""What NetBox's JSON holds, read without trust: a field that is not there or of another type is empty. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: A NetBox as read: objects by collection.
Dump = Mapping[str, Sequence[Mapping[str, Any]]]
#: NetBox's words for the state of a thing that are not `maintenance` here.
_STATES = {
    "": "active",
    "active": "active",
    "connected": "active",
    "decommissioning": "retired",
    "deprecated": "retired",
}


@dataclass(frozen=True, slots=True)
class NetboxObjectFields:
    """One object: `id`, and its fields by type."""

    raw: Mapping[str, Any]

    @property
    def id(self) -> int:
        value = self.raw.get("id")
        return value if isinstance(value, int) else 0

    @property
    def name(self) -> str:
        """Its name; for what has none, such as a device in a pool, its asset tag or how NetBox shows it."""
        return self.text("name") or self.text("asset_tag") or self.text("display")

    def text(self, field_: str) -> str:
        value = self.raw.get(field_)
        return str(value).strip() if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""

    def number(self, field_: str) -> float:
        """Returns a number, 0 where there is none. NetBox gives decimals as numbers or as text."""
        try:
            return float(self.raw.get(field_) or 0)
        except (TypeError, ValueError):
            return 0.0

    def to(self, field_: str) -> NetboxObjectFields:
        """Returns the nested object that a field refers to, an empty one where there is none."""
        value = self.raw.get(field_)
        return NetboxObjectFields(value if isinstance(value, Mapping) else {})

    def each(self, field_: str) -> Iterator[NetboxObjectFields]:
        value = self.raw.get(field_)
        for one in value if isinstance(value, list) else []:
            if isinstance(one, Mapping):
                yield NetboxObjectFields(one)

    def choice(self, field_: str) -> str:
        """Returns the value of a choice, `{"value": "active", "label": "Active"}`, or of its brief form, "active"."""
        return self.to(field_).text("value") or self.text(field_)

    def custom(self, *names: str) -> str:
        """Returns the first of these custom fields that has a value."""
        fields = self.to("custom_fields")
        return next((value for name in names if (value := fields.choice(name))), "")

    @property
    def state(self) -> tuple[str, str]:
        """(state, reason): what is offline, failed, planned, staged or in store is in maintenance."""
        status = self.choice("status")
        state = _STATES.get(status, "maintenance")
        return state, "" if state == "active" else f"NetBox: {status}"

    @property
    def changed_ms(self) -> int:
        """When NetBox last changed it, ms since 1970; 0 where it does not state that."""
        try:
            moment = dt.datetime.fromisoformat(self.text("last_updated") or self.text("created"))
        except ValueError:
            return 0
        return round((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp() * 1000)


def objects(dump: Dump, collection: str) -> Iterator[NetboxObjectFields]:
    """Yields those objects of a collection that have a number: the others can be no object of NetBox."""
    for raw in dump.get(collection, ()):
        if (found := NetboxObjectFields(raw)).id:
            yield found


@dataclass(slots=True)
class KnownNames:
    """The (site, asset) that each object of NetBox has become: by (collection, id). A name that two things of a site
    have is given to the second together with what it belongs to, or with its number.
    """

    assets: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    kinds: dict[tuple[str, str], str] = field(default_factory=dict)

    def give(self, site: str, collection: str, thing: NetboxObjectFields, kind: str, within: str = "") -> str:
        """Returns the asset that `thing` becomes: its name, or that of the custom field `gigawatch_name`."""
        name = thing.custom("gigawatch_name") or thing.name
        for candidate in (name, f"{within}/{name}" if within else "", f"{name}#{thing.id}"):
            if candidate and (site, candidate) not in self.kinds:
                break
        self.kinds[site, candidate] = kind
        self.assets[collection, thing.id] = (site, candidate)
        return candidate

    def of(self, collection: str, thing: NetboxObjectFields) -> tuple[str, str]:
        """Returns (site, asset); two empty strings for what is not known."""
        return self.assets.get((collection, thing.id), ("", ""))
