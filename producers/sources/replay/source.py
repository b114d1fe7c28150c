"""Replays recordings: a DSX MQTT trace (CSV of offset, topic, payload) or Parquet of our own frames.

Time stamps move so that the recording begins now (`keep_time` leaves them); `speed` 2 is twice as fast, 0 as fast as it
goes. Event time advances as recorded at any speed.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from producers.emission import Emission
from producers.sources.dsx.inventory import DsxInventory
from producers.sources.dsx.parse import InvalidMessage, Points
from producers.sources.source import SourceError, Ticker
from schemas.arrays import Floats
from schemas.catalogue import KINDS
from schemas.frame import build
from schemas.identity import IDENTITY

log = logging.getLogger("gigawatch.replay")

_DURATION = re.compile(
    r"(?:(?P<h>[\d.]+)h)?(?:(?P<m>[\d.]+)m(?!s))?(?:(?P<s>[\d.]+)s)?(?:(?P<ms>[\d.]+)ms)?(?:(?P<us>[\d.]+)[uµ]s)?"
)
_TO_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


def seconds(duration: str) -> float:
    """Returns a Go duration such as `1m39.4s` or `3.47ms` in seconds. Raises SourceError."""
    match = _DURATION.fullmatch(duration.strip())
    if not match or not any(match.groupdict().values()):
        raise SourceError(f"{duration!r} is not a duration such as 1m39.4s")
    return sum(float(v) * _TO_S[k] for k, v in match.groupdict().items() if v)


def open_recording(
    path: str, tick_s: float = 1.0, speed: float = 1.0, keep_time: bool = False, site: str = ""
) -> Replay:
    """Opens a `.csv` DSX trace, a `.parquet` file, or a folder of one `KIND.parquet` a kind. Raises SourceError."""
    where = Path(path)
    if not where.exists():
        raise SourceError(f"recording {path}: no such file or folder")
    if where.suffix == ".csv":
        return DsxReplay(where, tick_s, speed, site)
    files = sorted(where.glob("*.parquet")) if where.is_dir() else [where]
    if not files or any(f.suffix != ".parquet" for f in files):
        raise SourceError(f"recording {path}: wants a DSX trace (.csv), a .parquet file, or a folder of them")
    return FrameReplay(files, tick_s, speed, keep_time)


class DsxReplay:
    """A DSX trace: ingests messages in order, and at every tick emits a frame of each place's held values, and what is
    new in the inventory that the metadata states.
    """

    def __init__(self, path: Path, tick_s: float, speed: float, site: str = "") -> None:
        self.path, self._tick_s, self._speed = path, tick_s, speed
        self.points, self._inventory = Points(site), DsxInventory(site)

    @property
    def describe(self) -> str:
        return f"replay of the DSX trace {self.path.name}, a sample every {self._tick_s:g} s" + _pace(self._speed)

    def messages(self) -> Iterator[tuple[float, str, str]]:
        """Yields (seconds since the start, topic, payload). SourceError names the line that is not one."""
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            try:
                head = next(reader, None)
                if head != ["offset", "topic", "payload"]:
                    raise SourceError(f"{self.path}: first line is {head}, wanted offset,topic,payload")
                for row in reader:
                    if len(row) != 3:
                        raise SourceError(f"{self.path}, line {reader.line_num}: {len(row)} columns, wanted 3")
                    yield seconds(row[0]), row[1], row[2]
            except (csv.Error, UnicodeDecodeError) as err:
                raise SourceError(f"{self.path}, after line {reader.line_num}: not a DSX trace: {err}") from err

    async def emissions(self) -> AsyncGenerator[Emission]:
        ticker = Ticker(self._tick_s, None, self._speed)
        start, stamp = ticker.next_ms, await ticker.wait()
        for offset, topic, payload in self.messages():
            at = start + int(offset * 1000)
            while at > stamp:
                for emission in self._emissions(stamp):
                    yield emission
                stamp = await ticker.wait()
            try:
                self.points.ingest(topic, payload, at)
            except InvalidMessage as err:
                log.warning("%s: %s", self.path.name, err)
            self._inventory.note(topic, payload, at)
        for emission in self._emissions(stamp):
            yield emission
        if self.points.unmapped:
            log.info(
                "points without a metric here: %s", ", ".join(f"{n} ({c})" for n, c in self.points.unmapped.items())
            )

    def _emissions(self, stamp: int) -> Iterator[Emission]:
        yield from self._inventory.events(stamp)
        yield from self.points.frames(stamp)


class FrameReplay:
    """Our own frames from Parquet: emits rows of one kind and tick as one frame a rack."""

    def __init__(self, files: list[Path], tick_s: float, speed: float, keep_time: bool) -> None:
        self._files, self._tick_s, self._speed, self._keep = files, tick_s, speed, keep_time
        self._tables = [_read(path) for path in files]
        self.first_ms = min(int(pc.min(t["ts"].cast(pa.int64())).as_py()) for _, t in self._tables)

    @property
    def describe(self) -> str:
        rows = sum(t.num_rows for _, t in self._tables)
        return (
            f"replay of {rows} rows ({', '.join(k for k, _ in self._tables)}) from {self._files[0].parent.name}"
            + _pace(self._speed)
        )

    async def emissions(self) -> AsyncGenerator[Emission]:
        ticker = Ticker(self._tick_s, None, self._speed)
        shift = 0 if self._keep else ticker.next_ms - self.first_ms
        pieces = sorted(
            ((stamp, kind, batch) for kind, table in self._tables for stamp, batch in _ticks(table)), key=lambda p: p[0]
        )
        now = await ticker.wait()
        origin = now
        for stamp, kind, batch in pieces:
            while origin + (stamp - self.first_ms) > now:
                now = await ticker.wait()
            for part in _by_rack(batch):
                identity = {name: part.column(name) for name in IDENTITY}
                metrics = {
                    m.name: np.asarray(part.column(m.name)) for m in KINDS[kind].stored if m.name in part.schema.names
                }
                yield build(kind, stamp + shift, identity, metrics)


Replay = DsxReplay | FrameReplay


def _pace(speed: float) -> str:
    return "" if speed == 1 else (", as fast as it goes" if speed == 0 else f", {speed:g} times as fast")


def _read(path: Path) -> tuple[str, pa.Table]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as err:
        raise SourceError(f"{path}: not a Parquet file that can be read: {err}") from err
    mark = (table.schema.metadata or {}).get(b"gigawatch", b"").decode("utf-8", "replace").partition("/")[2]
    kind = mark if mark in KINDS else path.stem
    if kind not in KINDS:
        raise SourceError(f"{path}: carries no gigawatch mark and is not named after a kind ({', '.join(KINDS)})")
    missing = [n for n in ("ts", "device") if n not in table.schema.names]
    if missing or table.num_rows == 0:
        raise SourceError(f"{path}: {'no rows' if not missing else 'no column ' + ', '.join(missing)}")
    for name in IDENTITY:
        if name not in table.schema.names:
            table = table.append_column(name, pa.array([""] * table.num_rows, pa.string()))
    table = table.set_column(
        table.schema.get_field_index("ts"), "ts", table["ts"].cast(pa.timestamp("ms", "UTC"), safe=False)
    )
    for name in KINDS[kind].names:
        if name in table.schema.names and table[name].null_count:
            table = table.set_column(table.schema.get_field_index(name), name, pc.fill_null(table[name], float("nan")))
    return kind, table.sort_by([("ts", "ascending"), ("rack", "ascending")])


def _ticks(table: pa.Table) -> Iterator[tuple[int, pa.RecordBatch]]:
    batch = table.combine_chunks().to_batches()[0]
    stamps = np.asarray(batch.column("ts").cast(pa.int64()))
    for begin, end in _runs(stamps):
        yield int(stamps[begin]), batch.slice(begin, end - begin)


def _by_rack(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rack = np.asarray(batch.column("rack").to_pylist())
    for begin, end in _runs(rack):
        yield batch.slice(begin, end - begin)


def _runs(values: Floats) -> Iterator[tuple[int, int]]:
    """Yields (begin, end) of every run of equal values."""
    edges = np.flatnonzero(values[1:] != values[:-1]) + 1
    yield from zip([0, *edges.tolist()], [*edges.tolist(), len(values)], strict=True)


__all__ = ["Replay", "open_recording", "seconds"]
