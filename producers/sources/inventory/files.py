"""Inventory files that a person writes, CSV and TOML, as rows. Pure: text in, rows and mistakes out.

A bad line costs that line alone. Which CSV a file is shows its header.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from producers.sources.declared import AssetRow, DeclaredRow
from producers.sources.inventory.expand import RACK_KEYS, expanded
from producers.sources.inventory.table import FORMS, InvalidCell, Mistake, nearest, rows_of

#: The table of a TOML file -> the form of the CSV whose columns it has.
_TABLES = {"asset": "assets", "edge": "edges", "name": "names"}


@dataclass(frozen=True, slots=True)
class _Found:
    """A row, where it stands, and whether it only follows from a rack: what a line states comes before it."""

    row: DeclaredRow
    where: str
    weak: bool = False


@dataclass(slots=True)
class InventoryFile:
    """What one file holds. `entries` counts its lines, good and bad."""

    name: str
    found: list[_Found] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    entries: int = 0


def read(name: str, text: str, site: str, since_ms: int) -> InventoryFile:
    """Returns the rows of a file: TOML by its name, else CSV. Rows without a time are valid since `since_ms`."""
    out = InventoryFile(name)
    (_read_toml if name.endswith(".toml") else _read_csv)(out, text.removeprefix("\ufeff"), site, since_ms)
    return out


def together(files: Iterable[InventoryFile]) -> tuple[list[DeclaredRow], list[Mistake]]:
    """Returns the rows of several files. What is declared twice counts where it stands first, the other is a mistake;
    what follows from a rack gives way to a line about the same asset or the same place.
    """
    rows: dict[tuple[object, ...], _Found] = {}
    mistakes: list[Mistake] = []
    found = [each for file in files for each in file.found]
    places = {_place(each.row) for each in found if not each.weak}
    stated = {each.row.key for each in found if not each.weak}
    for each in found:
        if each.weak and (each.row.key in stated or _place(each.row) in places):
            continue
        first = rows.setdefault((*each.row.key, each.row.valid_from), each)
        if first is not each and first.row != each.row:
            mistakes.append(Mistake(each.where, "", f"{' '.join(each.row.key[2:])} stands in {first.where} already"))
    return [each.row for each in rows.values()], mistakes


def _place(row: DeclaredRow) -> tuple[str, ...] | None:
    return (row.site, row.kind, row.rack, row.node, row.device) if isinstance(row, AssetRow) else None


def _read_csv(out: InventoryFile, text: str, site: str, since_ms: int) -> None:
    lines = ((n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#"))
    number, head = next(lines, (1, ""))
    delimiter = max(",;\t", key=head.count)
    columns = [name.strip().lower() for name in next(csv.reader([head], delimiter=delimiter), [])]
    form = next((name for name, (needed, _) in FORMS.items() if set(needed) <= set(columns)), "")
    if not form:
        headers = ", or ".join(f"{','.join((*needed, *more))} ({name})" for name, (needed, more) in FORMS.items())
        out.mistakes.append(Mistake(f"{out.name}, line {number}", "", f"is no header; wanted is {headers}"))
        return
    known = (*FORMS[form][0], *FORMS[form][1])
    for column in columns:
        if column not in known or columns.count(column) > 1:
            why = f"is no column of {form}{nearest(column, known)}" if column not in known else "stands there twice"
            out.mistakes.append(Mistake(f"{out.name}, line {number}", column, f"{why}. It is passed over"))
    for number, line in lines:
        out.entries += 1
        try:
            row = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True))]
            if any(row[len(columns) :]) or "\ufffd" in line:
                what = f"{len(row)} cells, the header has {len(columns)}" if "\ufffd" not in line else "is not UTF-8"
                raise InvalidCell("", what)
            cells = {c: v for c, v in zip(columns, row, strict=False) if c in known and columns.count(c) == 1}
            _add(out, form, cells, f"{out.name}, line {number}", site, since_ms)
        except csv.Error as err:
            out.mistakes.append(Mistake(f"{out.name}, line {number}", "", f"is no CSV: {err}"))
        except InvalidCell as err:
            out.mistakes.append(Mistake(f"{out.name}, line {number}", err.column, err.what))


def _read_toml(out: InventoryFile, text: str, site: str, since_ms: int) -> None:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        out.mistakes.append(Mistake(out.name, "", f"is no TOML: {err}"))
        return
    for key, value in tables.items():
        if key == "site" and isinstance(value, str):
            site = value
        elif key not in ("rack", *_TABLES) or not isinstance(value, list):
            out.mistakes.append(Mistake(out.name, key, f"is no table here{nearest(key, ('rack', *_TABLES, 'site'))}"))
            continue
        for number, entry in enumerate(value if isinstance(value, list) else [], 1):
            out.entries += 1
            where = f"{out.name}, {key} {number}"
            known = RACK_KEYS if key == "rack" else [c for part in FORMS[_TABLES[key]] for c in part]
            try:
                cells = dict(_cells(entry, known))
                if key == "rack":
                    out.found += [_Found(row, where, weak=True) for row in expanded(cells, site, since_ms)]
                else:
                    _add(out, _TABLES[key], cells, where, site, since_ms)
            except InvalidCell as err:
                out.mistakes.append(Mistake(where, err.column, err.what))


def _cells(entry: object, known: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields the keys and values of a TOML table as text. Raises InvalidCell."""
    if not isinstance(entry, Mapping):
        raise InvalidCell("", f"{entry!r} is no table")
    for key, value in entry.items():
        if key not in known:
            raise InvalidCell(key, f"is no key here{nearest(key, tuple(known))}")
        if isinstance(value, (list, dict, bool)):
            raise InvalidCell(key, f"{value!r} is no text and no number")
        yield key, re.sub(r"\s+", " ", str(value)).strip()


def _add(out: InventoryFile, form: str, cells: Mapping[str, str], where: str, site: str, since_ms: int) -> None:
    out.found += [_Found(row, where) for row in rows_of(form, cells, site, since_ms)]
