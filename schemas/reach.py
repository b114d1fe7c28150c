"""The closure of the edges: for every element, what is lost with it and what is left without redundancy. Pure.

Edges of the networks `power` and `fluid` into an element are its feeds. Those of one network and one redundancy name
stand in for each other; an edge without a redundancy name cannot be missed. An edge `contains` cannot be missed either.
An element is *lost* when all feeds of one such group are lost, and *degraded* when it is not lost, and some feed of it
is lost or degraded. Example: of a 2N pair of feeds one may go; a rack on one cord goes with its feed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas.arrays import Ints
from schemas.inventory import REACH

#: The networks along which a loss goes downstream.
WALKED = ("power", "fluid", "contains")

#: (network, upstream, downstream, redundancy), as in the columns of EDGE.
Link = tuple[str, str, str, str]


@dataclass(frozen=True, eq=False, slots=True)
class Closure:
    """Pairs of elements, by their numbers in `names`: int[pairs] upstream, downstream, depth (edges of the shortest
    path), lost (1 lost, 0 degraded). `dropped`: edges that close a circle, or go from an element to itself; the walk
    leaves them out.
    """

    names: Sequence[str]
    upstream: Ints
    downstream: Ints
    depth: Ints
    lost: Ints
    dropped: tuple[Link, ...]

    def batches(self, site: str, made_ms: int, most: int = 100_000) -> Iterable[pa.RecordBatch]:
        """Yields the pairs as REACH rows of `site`, at most `most` a batch; `made_ms` in ms since 1970."""
        names = pa.array(self.names, pa.string())
        for begin in range(0, len(self.upstream), most):
            part = slice(begin, begin + most)
            rows = len(self.upstream[part])
            yield REACH.build(
                {
                    "made": pa.array(np.full(rows, made_ms, np.int64)).cast(pa.timestamp("ms", "UTC")),
                    "site": pa.array([site] * rows, pa.string()),
                    "upstream": names.take(pa.array(self.upstream[part])),
                    "downstream": names.take(pa.array(self.downstream[part])),
                    "depth": self.depth[part],
                    "lost": self.lost[part],
                }
            )

    def pairs(self) -> dict[tuple[str, str], tuple[int, bool]]:
        """Returns (depth, lost) by (upstream, downstream)."""
        columns = zip(self.upstream.tolist(), self.downstream.tolist(), self.depth, self.lost, strict=True)
        return {(self.names[u], self.names[d]): (int(depth), bool(lost)) for u, d, depth, lost in columns}


def reach(edges: Iterable[Link], devices: Collection[str] = frozenset()) -> Closure:
    """Returns the closure of a site's edges that are valid now. `devices` are the elements at which the walk ends: no
    pair has one (the GPUs of a node share its fate).

    Of two edges between the same elements in one network, the one that names a redundancy counts. What feeds the rack
    that contains it, such as a PDU in the rack, is above that rack.
    """
    graph = _Graph(edges, frozenset(devices))
    pairs = [_walk(graph, start) for start in range(len(graph.names)) if graph.below[start] or graph.followers[start]]
    return _expanded(graph, np.array([row for part in pairs for row in part], np.int64).reshape(-1, 4))


class _Graph:
    """Elements by number, without circles. By element: `below` has (downstream, group) of each edge out of it,
    `followers` the elements that nothing else feeds and that feed nothing: they share its fate. `size` is the number
    of feeds of each group.
    """

    def __init__(self, edges: Iterable[Link], devices: frozenset[str]) -> None:
        chosen: dict[tuple[str, str, str], str] = {}
        dropped: list[Link] = []
        for network, upstream, downstream, redundancy in edges:
            if network not in WALKED or upstream in devices or downstream in devices:
                continue
            if upstream == downstream:
                dropped.append((network, upstream, downstream, redundancy))
            elif network == "contains":
                chosen[network, upstream, downstream] = ""
            else:
                key = (network, upstream, downstream)
                chosen[key] = chosen.get(key) or redundancy
        for network, upstream, downstream in [key for key in chosen if key[0] == "contains"]:
            if ("power", downstream, upstream) in chosen or ("fluid", downstream, upstream) in chosen:
                del chosen[network, upstream, downstream]
        self.names: list[str] = list(dict.fromkeys(name for _, up, down in chosen for name in (up, down)))
        number = {name: n for n, name in enumerate(self.names)}
        links: list[list[tuple[int, Link]]] = [[] for _ in self.names]
        for (network, upstream, downstream), redundancy in chosen.items():
            links[number[upstream]].append((number[downstream], (network, upstream, downstream, redundancy)))
        dropped += _cut_circles(links)
        feeds = [0] * len(self.names)
        for out in links:
            for down, _ in out:
                feeds[down] += 1
        self.size: list[int] = []
        self.below: list[list[tuple[int, int]]] = [[] for _ in self.names]
        self.followers: list[list[int]] = [[] for _ in self.names]
        groups: dict[tuple[int, str, str], int] = {}
        for up, out in enumerate(links):
            for down, (network, _, _, redundancy) in out:
                if feeds[down] == 1 and not links[down]:
                    self.followers[up].append(down)
                    continue
                # an edge without a redundancy name is a group of its own
                group = groups.setdefault((down, network, redundancy), len(self.size)) if redundancy else len(self.size)
                if group == len(self.size):
                    self.size.append(0)
                self.size[group] += 1
                self.below[up].append((down, group))
        self.dropped = tuple(dropped)


def _cut_circles(links: list[list[tuple[int, Link]]]) -> list[Link]:
    """Takes every edge out of `links` that leads back to an element above it on the way there; returns those edges.

    The ways begin at elements that nothing feeds, then at those that only circles reach, in the order of the edges.
    """
    fed = {down for out in links for down, _ in out}
    order = sorted(range(len(links)), key=lambda n: n in fed)
    state, cut = bytearray(len(links)), list[Link]()  # 0: not seen, 1: on the way, 2: done
    for root in order:
        if state[root]:
            continue
        state[root], way = 1, [(root, 0)]
        while way:
            at, position = way.pop()
            out = links[at]
            while position < len(out) and state[out[position][0]]:
                if state[out[position][0]] == 1:
                    cut.append(out.pop(position)[1])
                else:
                    position += 1
            if position == len(out):
                state[at] = 2
            else:
                way.append((at, position + 1))
                state[out[position][0]] = 1
                way.append((out[position][0], 0))
    return cut


def _walk(graph: _Graph, start: int) -> list[tuple[int, int, int, int]]:
    """Returns (upstream, downstream, depth, lost) of `start` and of what is behind it, without followers."""
    depth, queue = {start: 0}, deque([start])
    while queue:
        at = queue.popleft()
        for down, _ in graph.below[at]:
            if down not in depth:
                depth[down] = depth[at] + 1
                queue.append(down)
    lost, missing, falling = {start}, dict[int, int](), [start]
    while falling:
        for down, group in graph.below[falling.pop()]:
            left = missing[group] = missing.get(group, graph.size[group]) - 1
            if not left and down not in lost:
                lost.add(down)
                falling.append(down)
    return [(start, element, steps, element in lost) for element, steps in depth.items()]


def _expanded(graph: _Graph, pairs: Ints) -> Closure:
    """The closure of the walks' pairs: an element's followers are one step behind it, and it is not behind itself."""
    counts = np.array([len(f) for f in graph.followers], np.int64)
    flat = np.array([f for followers in graph.followers for f in followers], np.int64)
    first = np.concatenate([[0], np.cumsum(counts)])
    each = counts[pairs[:, 1]]
    row = np.repeat(np.arange(len(pairs)), each)
    within = np.arange(len(row)) - np.repeat(np.cumsum(each) - each, each)
    behind = pairs[:, 2] > 0
    return Closure(
        graph.names,
        np.concatenate([pairs[behind, 0], pairs[row, 0]]),
        np.concatenate([pairs[behind, 1], flat[first[pairs[row, 1]] + within]]),
        np.concatenate([pairs[behind, 2], pairs[row, 2] + 1]).astype(np.uint32),
        np.concatenate([pairs[behind, 3], pairs[row, 3]]).astype(np.uint8),
        graph.dropped,
    )
