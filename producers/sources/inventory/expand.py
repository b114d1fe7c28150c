"""One `[[rack]]` of a TOML file as its assets: the rack, its nodes, their GPUs, named by patterns. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from producers.sources.declared import AssetRow
from producers.sources.inventory.table import InvalidCell

#: Keys of a `[[rack]]`, with what stands for those that are not given.
RACK_KEYS: Mapping[str, str] = {
    "name": "",
    "hall": "",
    "row": "",
    "model": "",
    "nodes": "0",
    "gpus_per_node": "0",
    "node": "{rack}-N{nn}",
    "gpu": "{node}-GPU{i}",
}
_RANGE = re.compile(r"(?P<before>.*)\[(?P<first>\d+)-(?P<last>\d+)\](?P<after>.*)")
_FIELD = re.compile(r"\{(rack|node|n+|i+)\}")
_MOST_RACKS, _MOST_NODES, _MOST_GPUS = 100_000, 1000, 1000


def expanded(cells: Mapping[str, str], site: str, since_ms: int) -> Iterator[AssetRow]:
    """Yields the assets of a `[[rack]]`. Its name may hold one range, `R[0001-0128]`. In patterns, `{nn}` is the number
    of the node from 01 and `{i}` that of the GPU from 0; as many digits as letters. Raises InvalidCell.
    """
    cells = {**RACK_KEYS, **cells}
    nodes = _count("nodes", cells["nodes"], _MOST_NODES)
    gpus = _count("gpus_per_node", cells["gpus_per_node"], _MOST_GPUS)
    _check("node", cells["node"], "n" if nodes > 1 else "")
    _check("gpu", cells["gpu"], "i" if gpus > 1 else "")
    for rack in _names(cells["name"]):
        place = {"site": site, "hall": cells["hall"], "row": cells["row"], "rack": rack, "model": cells["model"]}
        whole = AssetRow(asset=rack, kind="rack", since=since_ms, **place)  # type: ignore[arg-type]
        yield whole
        for n in range(1, nodes + 1):
            node = _filled(cells["node"], rack, "", n, 0)
            yield replace(whole, asset=node, kind="node", node=node)
            for i in range(gpus):
                gpu = _filled(cells["gpu"], rack, node, n, i)
                yield replace(whole, asset=gpu, kind="gpu", node=node, device=gpu)


def _names(name: str) -> Iterator[str]:
    found = _RANGE.fullmatch(name)
    if not name or (not found and re.search(r"[\[\]]", name)):
        raise InvalidCell("name", f"{name!r} is no rack's name such as R0001, and no range such as R[0001-0128]")
    if not found:
        yield name
        return
    first, last = int(found["first"]), int(found["last"])
    if not first <= last < first + _MOST_RACKS:
        raise InvalidCell("name", f"{name!r}: the range has no racks, or more than {_MOST_RACKS}")
    for number in range(first, last + 1):
        yield f"{found['before']}{number:0{len(found['first'])}d}{found['after']}"


def _count(column: str, text: str, most: int) -> int:
    if not text.isdecimal() or int(text) > most:
        raise InvalidCell(column, f"{text!r} is no number from 0 to {most}")
    return int(text)


def _check(column: str, pattern: str, letter: str) -> None:
    """Raises InvalidCell for a field that does not exist, and for a pattern that gives all parts one name."""
    known = r"\{(rack|n+)\}" if column == "node" else _FIELD
    if re.search(r"[{}]", re.sub(known, "", pattern)):
        fields = "{rack}, {n}, {nn}" if column == "node" else "{rack}, {node}, {n}, {nn}, {i}, {ii}"
        raise InvalidCell(column, f"{pattern!r}: fields are {fields}")
    if letter and not re.search(rf"\{{{letter}+\}}", pattern):
        raise InvalidCell(column, f"{pattern!r} gives several parts one name: it lacks {{{letter}}}")
    if letter and not re.search(r"\{(rack|node)\}", pattern):
        raise InvalidCell(column, f"{pattern!r} gives parts of several racks one name: it lacks {{rack}} or {{node}}")


def _filled(pattern: str, rack: str, node: str, n: int, i: int) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in ("rack", "node"):
            return rack if name == "rack" else node
        return f"{n if name[0] == 'n' else i:0{len(name)}d}"

    return _FIELD.sub(value, pattern)
