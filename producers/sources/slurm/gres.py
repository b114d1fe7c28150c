"""GPUs in Slurm's generic resources: what a node has, and what a job holds of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from producers.sources.slurm.hostlist import InvalidHostlist, numbers

#: Resources that stand for parts of a GPU; an entry has `held/of` for each GPU of the node.
SHARED = ("shard", "mps")
#: Of one node: a count that is more is no count.
MOST = 10_000

_MIG = re.compile(r"\d+[gc]\.\d+g")
_COUNT = re.compile(r"(\d{1,9})([KMGT]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_RATIO = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True, slots=True)
class HeldGpus:
    """GPUs of one node that a job holds: how many, which (None: Slurm does not state it), and what share of each."""

    count: int
    indices: tuple[int, ...] | None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class _Resource:
    """One entry: `gpu:h100:2(IDX:0-1)` has name gpu, type h100, count 2 and detail IDX:0-1."""

    name: str
    type: str
    count: int
    detail: str


def gpus(gres: str) -> int:
    """Returns the GPUs of `gpu:h100:4(S:0-1),nic:2`: 4. A node's `gres` or `gres_used`; of `(null)` 0."""
    return min(MOST, sum(each.count for each in _resources(gres) if each.name == "gpu"))


def held(gres_detail: str) -> HeldGpus | None:
    """Returns what a job holds of one node, from that node's entry of `gres_detail`; None: no GPU.

    Indices of MIG instances count instances, not boards: they are not known as GPUs.
    """
    found = list(_resources(gres_detail))
    whole = [each for each in found if each.name == "gpu" and each.count]
    if whole:
        indices: tuple[int, ...] | None = ()
        for each in whole:
            some = _indices(each)
            indices = None if some is None or indices is None else indices + some
        return HeldGpus(
            min(MOST, sum(each.count for each in whole)), indices if indices is None else tuple(sorted(set(indices)))
        )
    return next((part for each in found if each.name in SHARED if (part := _part(each))), None)


def allocated(tres: str) -> int:
    """Returns the GPUs of `cpu=8,node=1,gres/gpu=4,gres/gpu:h100=4`: 4; 0 when it counts none."""
    counts: dict[str, int] = {}
    for entry in tres.split(","):
        name, _, count = entry.partition("=")
        if name == "gres/gpu" or name.startswith("gres/gpu:"):
            counts[name] = counts.get(name, 0) + _count(count)
    return counts.get("gres/gpu", sum(counts.values()))


def requested(tres: str) -> int:
    """Returns the GPUs of `gres:gpu:h100:2` or `gres/gpu:2`, as a request names them; 0 for none."""
    return gpus(",".join(entry.strip().removeprefix("gres:").removeprefix("gres/") for entry in tres.split(",")))


def _resources(text: str) -> Iterator[_Resource]:
    for entry in _entries(text):
        head, _, detail = entry.partition("(")
        name, *words = head.split(":")
        detail = detail.rstrip(")")
        counts = [_count(word) for word in words if _COUNT.fullmatch(word)]
        counts += [_count(detail.removeprefix("CNT:"))] if detail.startswith("CNT:") else []
        types = [word for word in words if not _COUNT.fullmatch(word) and word != "no_consume"]
        yield _Resource(name.strip(), types[0] if types else "", counts[-1] if counts else 1, detail)


def _entries(text: str) -> Iterator[str]:
    """The entries between commas that stand outside of parentheses."""
    depth, begin = 0, 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth <= 0:
            yield text[begin:at]
            begin = at + 1
    if text[begin:]:
        yield text[begin:]


def _count(text: str) -> int:
    match = _COUNT.fullmatch(text)
    return int(match[1]) * _UNITS[match[2]] if match else 0


def _indices(resource: _Resource) -> tuple[int, ...] | None:
    if not resource.detail.startswith("IDX:") or _MIG.match(resource.type):
        return None
    try:
        found = numbers(resource.detail.removeprefix("IDX:"))
    except InvalidHostlist:
        return None
    return found if len(found) == resource.count else None


def _part(resource: _Resource) -> HeldGpus | None:
    """`shard:4(2/8,0/8,2/8)`: GPUs 0 and 2, a quarter of each. One share stands for all: their mean."""
    shares = {}
    for index, ratio in enumerate(resource.detail.split(",")):
        match = _RATIO.fullmatch(ratio.strip())
        if match and int(match[1]) and int(match[2]):
            shares[index] = min(1.0, int(match[1]) / int(match[2]))
    return HeldGpus(len(shares), tuple(shares), sum(shares.values()) / len(shares)) if shares else None
