"""The same with Quix Streams: its own hopping window over a JSON topic."""

from __future__ import annotations

import os
from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Max, Mean
from rolling import HOP_MS, WINDOW_MS, Report

report = Report()
app = Application(
    broker_address=report.bootstrap,
    consumer_group="peer-quix",
    auto_offset_reset="earliest",
    loglevel="ERROR",
    commit_interval=5.0,
    request_timeout=30,
)
frame = app.dataframe(
    app.topic(report.topic, value_deserializer="json", timestamp_extractor=lambda value, *_: value["ts"])
)


def seen(value: Any) -> None:
    if report.count():
        report.print()
        os._exit(0)


def closed(value: Any, key: Any, *_: Any) -> None:
    report.window(key.decode() if isinstance(key, bytes) else str(key), value["end"], value["mean"], value["max"])


(
    frame.hopping_window(WINDOW_MS, HOP_MS, grace_ms=0)
    .agg(mean=Mean("util_pct"), max=Max("util_pct"))
    .final()
    .update(closed, metadata=True)
)
frame.update(seen)

if __name__ == "__main__":
    app.run()
