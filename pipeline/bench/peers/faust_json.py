"""Per-sample JSON through faust: an agent, a dictionary, a deque a device."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import faust
from rolling import Report, Rolling

report, rolling = Report(), Rolling()
app = faust.App(
    "peer-faust",
    broker=f"kafka://{report.bootstrap}",
    store="memory://",
    datadir=tempfile.mkdtemp(),
    web_enabled=False,
    topic_allow_declare=False,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    value_serializer="json",
    broker_session_timeout=6.0,
    broker_rebalance_timeout=3.0,
    broker_heartbeat_interval=1.0,
)


@app.agent(app.topic(report.topic, value_serializer="json"))
async def samples(stream: Any) -> None:
    async for sample in stream:
        for end, mean, high in rolling.add(sample["device"], sample["ts"], sample["util_pct"]):
            report.window(sample["device"], end, mean, high)
        if report.count():
            report.print()
            os._exit(0)


if __name__ == "__main__":
    faust.Worker(app, loglevel="ERROR").execute_from_commandline()
