"""The forms in which Slurm writes numbers, texts and states, over its versions. Pure."""

from __future__ import annotations

from typing import Any

#: Slurm's NO_VAL and INFINITE of 32 and 64 bits, and all that is no time or count.
_NO_NUMBER = 0xFFFF_FFF0


def number(value: Any) -> int:
    """Returns a number in any of Slurm's forms; 0 for none, infinite and its own marks of no value."""
    return optional(value) or 0


def optional(value: Any) -> int | None:
    """Returns the same; None instead of 0 where there is no number."""
    if isinstance(value, dict):
        if not value.get("set", True) or value.get("infinite"):
            return None
        value = value.get("number")
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:20])
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _NO_NUMBER:
        return None
    return int(value)


def words(value: Any) -> list[str]:
    """Returns the words of a state: `"RUNNING"`, `"IDLE+DRAIN"` or `["IDLE", "DRAIN"]`."""
    listed = value if isinstance(value, list) else [value]
    return [word for each in listed for word in string(each).upper().replace("+", " ").split()]


def mapping(record: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns a field that is an object, an empty one for anything else."""
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def text(record: dict[str, Any], name: str) -> str:
    """Returns a field that is text, "" for anything else."""
    return string(record.get(name))


def string(value: Any) -> str:
    """Returns text as UTF-8 can hold it, "" for anything else: JSON can escape half of a character."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()
