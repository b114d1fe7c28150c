"""The same with Bytewax: a sliding window folded per device over a JSON topic."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, SlidingWindower
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from rolling import HOP_MS, WINDOW_MS, Report

report = Report()
START = datetime(2020, 1, 1, tzinfo=UTC)


def parse(message: Any) -> tuple[str, tuple[int, float]]:
    sample = json.loads(message.value)
    if report.count():
        report.print()
        os._exit(0)
    return sample["device"], (sample["ts"], sample["util_pct"])


def add(held: tuple[int, float, float], sample: tuple[int, float]) -> tuple[int, float, float]:
    return held[0] + 1, held[1] + sample[1], max(held[2], sample[1])


def merge(a: tuple[int, float, float], b: tuple[int, float, float]) -> tuple[int, float, float]:
    return a[0] + b[0], a[1] + b[1], max(a[2], b[2])


class Windows(StatelessSinkPartition[Any]):
    def write_batch(self, items: list[Any]) -> None:
        for device, (number, (count, total, high)) in items:
            end = int((START + number * timedelta(milliseconds=HOP_MS)).timestamp() * 1000) + WINDOW_MS
            report.window(device, end, total / count, high)


class WindowSink(DynamicSink[Any]):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> Windows:
        return Windows()


flow = Dataflow("peer")
samples = op.map(
    "parse", op.input("samples", flow, KafkaSource([report.bootstrap], [report.topic], batch_size=1000)), parse
)
clock = EventClock(
    ts_getter=lambda sample: datetime.fromtimestamp(sample[0] / 1000, UTC), wait_for_system_duration=timedelta(0)
)
windower = SlidingWindower(
    length=timedelta(milliseconds=WINDOW_MS), offset=timedelta(milliseconds=HOP_MS), align_to=START
)
folded = win.fold_window("fold", samples, clock, windower, lambda: (0, 0.0, 0.0), add, merge)
op.output("windows", folded.down, WindowSink())

if __name__ == "__main__":
    run_main(flow)
