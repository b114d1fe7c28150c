"""dcgm-exporter's text as one gpu frame. Pure."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from producers.sources import points
from producers.sources.exposition import InvalidLine, samples
from schemas.catalogue import KINDS
from schemas.frame import Frame, build

log = logging.getLogger("gigawatch.dcgm")

_NAMES = points.by_name("dcgm", "gpu")
_WANTED = frozenset(_NAMES)


@dataclass(slots=True)
class Scraped:
    """One exposition: its frame (None when it holds no GPU), and the lines passed over, counted by reason."""

    frame: Frame | None
    refused: Counter[str] = field(default_factory=Counter)


def parse(text: str, ts_ms: int, site: str = "", rack: str = "", node: str = "") -> Scraped:
    """Returns the text as one gpu frame; old and new field names; each MIG instance is a device of its own.

    Without `node` the exporter's own host name is the node, and without `rack` it is the rack too.
    """
    refused: Counter[str] = Counter()
    rows: dict[str, dict[str, float]] = {}
    labelled: dict[str, tuple[str, str, str]] = {}  # node, model, job
    for sample in samples(text, _WANTED):
        if isinstance(sample, InvalidLine):
            refused["line"] += 1
            log.debug("%s", sample)
            continue
        labels = sample.labels
        host = node or labels.get("Hostname") or labels.get("hostname") or labels.get("node") or ""
        gpu = labels.get("gpu", labels.get("GPU", ""))
        if not gpu:
            refused["no-gpu-label"] += 1
            continue
        device = f"{host}-GPU{gpu}" if host else labels.get("UUID", f"GPU{gpu}")
        instance = labels.get("GPU_I_ID", "")
        if instance:
            device += f"-MIG{instance}"
        job = labels.get("hpc_job") or "/".join(filter(None, (labels.get("namespace"), labels.get("pod"))))
        known = labelled.get(device, ("", "", ""))  # not every line carries every label
        labelled[device] = (
            known[0] or host,
            known[1] or labels.get("modelName", "").removeprefix("NVIDIA "),
            known[2] or job,
        )
        metric, scale = _NAMES[sample.name]
        # a sentinel is recognised before scaling, since the scaled one could look like a value
        huge = abs(sample.value) >= min(metric.sentinels) and sample.value * scale > metric.hi
        rows.setdefault(device, {}).setdefault(metric.name, sample.value if huge else sample.value * scale)
    if not rows:
        return Scraped(None, refused)
    devices = sorted(rows)
    names = [m.name for m in KINDS["gpu"].stored if any(m.name in r for r in rows.values())]
    hosts = [labelled[d][0] for d in devices]
    identity = {
        "site": [site] * len(devices),
        "rack": [rack or h for h in hosts],
        "node": hosts,
        "device": devices,
        "model": [labelled[d][1] for d in devices],
        "job": [labelled[d][2] for d in devices],
    }
    values = {n: np.array([rows[d].get(n, np.nan) for d in devices]) for n in names}
    return Scraped(build("gpu", ts_ms, identity, values), refused)
