"""dcgm-exporter's text as frames: `gpu`, `gpu_instance` for MIG, `node` for the CPUs of Grace hosts. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import nan

from producers.sources.dcgm.page import ScrapedBoard, ScrapedCpu, ScrapedInstance, ScrapedPage, read
from schemas.catalogue import KINDS
from schemas.frame import Frame, build

_METRICS = {kind: tuple(m.name for m in KINDS[kind].stored) for kind in ("gpu", "gpu_instance", "node")}


@dataclass(slots=True)
class Scraped:
    """One exposition: a frame of each kind that it holds, and the lines passed over, counted by reason."""

    frames: list[Frame]
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def frame(self) -> Frame | None:
        """The boards; None when it holds none."""
        return next((f for f in self.frames if f.kind == "gpu"), None)


def parse(text: str, ts_ms: int, site: str = "", rack: str = "", node: str = "") -> Scraped:
    """Returns the text as frames. Without `node` the exporter's own host name is the node, and without `rack` it is the
    rack too.
    """
    page = read(text, node)
    for part in page.devices:
        place(part, rack, part.host)
    return Scraped(frames(page, ts_ms, site), page.refused)


def place(part: ScrapedBoard | ScrapedCpu, rack: str, node: str) -> None:
    """Gives the part its place, and its name there: `NODE-GPU0`, or `NODE-CPU0`. Without rack the node is the rack;
    without node a board goes by its UUID.
    """
    part.rack, part.node = rack or node, node
    if isinstance(part, ScrapedCpu):
        part.device = f"{node}-CPU{part.cpu}" if node else f"CPU{part.cpu}"
    else:
        part.device = f"{node}-GPU{part.gpu}" if node else part.uuid or f"GPU{part.gpu}"


def frames(page: ScrapedPage, ts_ms: int, site: str) -> list[Frame]:
    """Returns a frame of each kind that the page holds; its boards and CPUs have their places."""
    made = []
    if page.boards:
        made.append(_boards(page.boards, ts_ms, site))
        if any(b.instances for b in page.boards):
            made.append(_instances(page.boards, ts_ms, site))
    if page.cpus:
        rows = [cpu.figures() for cpu in page.cpus]
        identity = _identity(page.cpus, site) | {"model": [c.model for c in page.cpus], "board": [""] * len(page.cpus)}
        made.append(build("node", ts_ms, identity, _columns("node", rows)))
    return made


def _boards(boards: Sequence[ScrapedBoard], ts_ms: int, site: str) -> Frame:
    identity = _identity(boards, site) | {"model": [b.model for b in boards], "board": [b.uuid for b in boards]}
    rows = [b.shared | b.values if b.shared else b.values for b in boards]
    return build("gpu", ts_ms, identity, _columns("gpu", rows))


def _instances(boards: Sequence[ScrapedBoard], ts_ms: int, site: str) -> Frame:
    """One row an instance. Its board is `UUID/7`, or empty without UUID; its model is its profile."""
    parts = [(b, i) for b in boards for i in b.instances.values()]
    identity = _identity([b for b, _ in parts], site) | {
        "device": [f"{b.device}-MIG{i.number}" for b, i in parts],
        "model": [i.profile for _, i in parts],
        "board": [f"{b.uuid}/{i.number}" if b.uuid else "" for b, i in parts],
    }
    return build("gpu_instance", ts_ms, identity, _columns("gpu_instance", [_of_instance(i) for _, i in parts]))


def _of_instance(instance: ScrapedInstance) -> dict[str, float]:
    """Returns its values; the share of time in which its engines were active is its utilization."""
    active = instance.values.get("gr_engine_active", nan)
    return instance.values | {"util_pct": 100 * active} if active <= 1 else instance.values  # not a sentinel, nor NaN


def _identity(parts: Sequence[ScrapedBoard] | Sequence[ScrapedCpu], site: str) -> dict[str, list[str]]:
    return {
        "site": [site] * len(parts),
        "rack": [p.rack for p in parts],
        "node": [p.node for p in parts],
        "device": [p.device for p in parts],
    }


def _columns(kind: str, rows: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Returns the kind's metrics that any row has, NaN where one has none."""
    given = set[str]().union(*rows)
    return {name: [row.get(name, nan) for row in rows] for name in _METRICS[kind] if name in given}
