"""dcgm-exporter's text as what it speaks of: boards with their MIG instances, and CPUs. Pure."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from producers.sources import points
from producers.sources.dcgm.job_labels import job_of
from producers.sources.exposition import InvalidLine, samples
from schemas import hardware
from schemas.catalogue import KINDS

log = logging.getLogger("gigawatch.dcgm")


@dataclass(frozen=True, slots=True)
class _Field:
    """What a field of DCGM is here. A value from `blank` on that is above `most` once scaled is a sentinel: it stays
    unscaled, since the scaled one could look like a value.
    """

    metric: str
    scale: float
    blank: float
    most: float


def _fields(kind: str) -> dict[str, _Field]:
    return {
        at: _Field(m.name, scale, min(m.sentinels), m.hi) for at, (m, scale) in points.by_name("dcgm", kind).items()
    }


_GPU, _CPU = _fields("gpu"), _fields("node")
_WANTED = frozenset(_GPU) | frozenset(_CPU)
#: What an instance's line gives of the instance alone. The engines' share of time is its utilization where it is given;
#: copies, encoders and decoders have no column of an instance.
_OF_INSTANCE = frozenset(m.name for m in KINDS["gpu_instance"].stored) | {
    "gr_engine_active",
    "mem_copy_util_pct",
    "enc_util_pct",
    "dec_util_pct",
}


@dataclass(slots=True)
class ScrapedInstance:
    """A MIG instance: its id and profile, what its lines give, and the jobs that its labels name."""

    number: str
    profile: str = ""
    values: dict[str, float] = field(default_factory=dict)
    jobs: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class ScrapedBoard:
    """A GPU of the page. `values` are of lines without an instance; `shared` what instances' lines give of the board.

    `label` is the exporter's own host name, `host` the same or the node that stands for it. `rack`, `node` and `device`
    are filled in where the place is known.
    """

    host: str
    gpu: str
    label: str = ""
    uuid: str = ""
    model: str = ""
    pci: str = ""
    values: dict[str, float] = field(default_factory=dict)
    shared: dict[str, float] = field(default_factory=dict)
    instances: dict[str, ScrapedInstance] = field(default_factory=dict)
    jobs: dict[str, None] = field(default_factory=dict)
    rack: str = ""
    node: str = ""
    device: str = ""


@dataclass(slots=True)
class ScrapedCpu:
    """A CPU of the page; `cores` has what its cores' lines give, `blanks` what is not supported of the CPU itself."""

    host: str
    cpu: str
    model: str = ""
    values: dict[str, float] = field(default_factory=dict)
    blanks: dict[str, float] = field(default_factory=dict)
    cores: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    rack: str = ""
    node: str = ""
    device: str = ""

    def figures(self) -> dict[str, float]:
        """Returns the CPU's own figures by metric, else the means over its cores, else the sentinels."""
        return self.blanks | {name: sum(found) / len(found) for name, found in self.cores.items()} | self.values


@dataclass(slots=True)
class ScrapedPage:
    """One exposition: its boards by host and index, its CPUs, and the lines passed over, counted by reason."""

    boards: list[ScrapedBoard] = field(default_factory=list)
    cpus: list[ScrapedCpu] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def devices(self) -> list[ScrapedBoard | ScrapedCpu]:
        return [*self.boards, *self.cpus]


def read(text: str, node: str = "") -> ScrapedPage:
    """Returns what the text holds; fields by their old and new names. Of several lines of one figure the first counts.

    `node` stands for the exporter's host names. Lines of one index with different UUIDs are of different boards.
    """
    page = ScrapedPage()
    boards: dict[tuple[str, str], list[ScrapedBoard]] = {}
    cpus: dict[tuple[str, str], ScrapedCpu] = {}
    gpu_lines: dict[str, tuple[ScrapedBoard, ScrapedInstance | None] | None] = {}  # by the text of their labels
    cpu_lines: dict[str, tuple[ScrapedCpu, bool] | None] = {}
    for sample in samples(text, _WANTED):
        if isinstance(sample, InvalidLine):
            page.refused["line"] += 1
            log.debug("%s", sample)
            continue
        series, number = sample.series, sample.value
        if (known := _GPU.get(sample.name)) is not None:
            if series not in gpu_lines:
                gpu_lines[series] = _board(sample.labels, node, boards)
            if (line := gpu_lines[series]) is None:
                page.refused["no-gpu-label"] += 1
                continue
            board, instance = line
            value = number * known.scale
            if abs(number) >= known.blank and value > known.most:
                value = number
            if instance is None:
                board.values.setdefault(known.metric, value)
            elif known.metric in _OF_INSTANCE:
                instance.values.setdefault(known.metric, value)
            else:
                board.shared.setdefault(known.metric, value)
        else:
            known = _CPU[sample.name]
            if series not in cpu_lines:
                cpu_lines[series] = _cpu(sample.labels, node, cpus)
            if (found := cpu_lines[series]) is None:
                page.refused["no-cpu-label"] += 1
                continue
            cpu, is_core = found
            value = number * known.scale
            if abs(number) >= known.blank and value > known.most:
                if not is_core:
                    cpu.blanks.setdefault(known.metric, number)
                continue
            if known.metric == "clock_mhz" and value > known.most:
                value /= 1000  # DCGM hands on what the kernel gives, which is kHz
            if is_core:
                cpu.cores[known.metric].append(value)
            else:
                cpu.values.setdefault(known.metric, value)
    page.boards = sorted((b for same in boards.values() for b in same), key=lambda b: (b.host, _natural(b.gpu), b.uuid))
    page.cpus = sorted(cpus.values(), key=lambda c: (c.host, _natural(c.cpu)))
    return page


def _board(
    labels: dict[str, str], node: str, boards: dict[tuple[str, str], list[ScrapedBoard]]
) -> tuple[ScrapedBoard, ScrapedInstance | None] | None:
    """Returns the board of these labels and its instance, with what they say of it noted; None without an index."""
    gpu = labels.get("gpu") or labels.get("GPU") or ""
    if not gpu:
        return None
    label, uuid = _host(labels), labels.get("UUID") or labels.get("uuid") or ""
    host = node or label
    same = boards.setdefault((host, gpu), [])
    board = next((b for b in same if not uuid or b.uuid in ("", uuid)), None)
    if board is None:
        board = ScrapedBoard(host, gpu)
        same.append(board)
    board.label = board.label or label
    board.uuid = board.uuid or uuid  # not every line carries every label
    board.model = board.model or _model(labels)
    board.pci = board.pci or labels.get("pci_bus_id", "")
    job = job_of(labels)
    number = labels.get("GPU_I_ID", "")
    if not number:
        if job:
            board.jobs[job] = None
        return board, None
    instance = board.instances.setdefault(number, ScrapedInstance(number))
    instance.profile = instance.profile or labels.get("GPU_I_PROFILE", "")
    if job:
        instance.jobs[job] = None
    return board, instance


def _cpu(labels: dict[str, str], node: str, cpus: dict[tuple[str, str], ScrapedCpu]) -> tuple[ScrapedCpu, bool] | None:
    """Returns the CPU of these labels, and whether they are a core's; None without a number."""
    number = labels.get("cpu", "")
    if not number:
        return None
    host = node or _host(labels)
    cpu = cpus.setdefault((host, number), ScrapedCpu(host, number))
    cpu.model = cpu.model or _model(labels)
    return cpu, bool(labels.get("cpucore"))


def _host(labels: dict[str, str]) -> str:
    return labels.get("Hostname") or labels.get("hostname") or labels.get("node") or ""


def _model(labels: dict[str, str]) -> str:
    return hardware.load().canonical(labels.get("modelName", ""))


def _natural(number: str) -> tuple[int, str]:
    """Orders `2` before `10`; what is no number comes last."""
    return (int(number), "") if number.isdecimal() and len(number) < 10 else (1 << 40, number)
