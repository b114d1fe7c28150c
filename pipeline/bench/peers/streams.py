"""Rolling minutes: per-sample JSON through faust, Quix Streams and Bytewax, against a Gigawatch worker on the same
plant.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bench.peers import environment, samples
from pipeline.bench.peers.rolling import HOP_MS, WINDOW_MS
from pipeline.bench.peers.samples import TOPIC, Samples
from pipeline.bench.stages import Bench, BenchResult
from pipeline.embedded.process import ProcessError
from pipeline.embedded.supervisor import Supervisor
from pipeline.monitoring import status

GPUS, TICKS = 1_440, 180
_TIMEOUT_S = 420
PEERS = {
    "faust, JSON a sample": "faust_json.py",
    "Quix Streams, JSON a sample": "quix_json.py",
    "Bytewax, JSON a sample": "bytewax_json.py",
}


async def run(bench: Bench) -> BenchResult:
    python = await asyncio.to_thread(environment.python, bench.progress)
    rows, absent, wrong = [], [], 0
    async with bench.factory((), consumers=False, services=("broker",)) as factory:
        await fill(factory, (f"premade:{GPUS}",), TICKS, 1.0)
        found = await samples.read(factory.bootstrap)
        await samples.publish(factory, found)
        bench.progress(f"{found.count:,} GPU samples in the log, as frames and as JSON")
        ours = await _worker(factory, found.count)
        device = found.devices[7]
        truth = naive(found, device)
        for name, script in PEERS.items():
            if python is None:
                absent.append(name)
                continue
            bench.progress(name)
            answer = await _peer(python, script, factory, found, device)
            if answer is None:
                absent.append(f"{name} (did not finish within {_TIMEOUT_S} s)")
                continue
            wrong += not agrees(truth, {int(end): pair for end, pair in answer["windows"].items()})
            rows.append(
                {
                    "what": "GPU samples a second a core, 1 min rolling mean and max",
                    "unit": "/s",
                    "peer": name,
                    "ours": ours,
                    "theirs": answer["messages"] / answer["cpu_s"],
                    "more_is_better": True,
                }
            )
    return {"rows": rows, "absent": absent, "wrong": wrong, "samples": found.count}


async def fill(factory: Supervisor, source: tuple[str, ...], ticks: int, tick_s: float) -> None:
    """Fills the factory's log with `ticks` ticks of the source; the last one is about now."""
    producer = factory.spawn(
        "producer",
        [
            "produce",
            *source,
            "--tick",
            str(tick_s),
            "--ticks",
            str(ticks),
            "--speed",
            "0",
            "--back",
            str(ticks * tick_s),
            "--broker",
            factory.bootstrap,
        ],
    )
    while producer.running:  # noqa: ASYNC110 - a process ends without telling the loop
        await asyncio.sleep(0.2)
    if producer.code:
        raise ProcessError(f"the producer ended with code {producer.code}: {producer.tail()}")


def naive(found: Samples, device: str) -> dict[int, tuple[float, float]]:
    """Window end -> (mean, maximum) of one GPU's utilization, recomputed for every whole window."""
    at, values = found.of(device, "util_pct")
    first = int(at[0]) // HOP_MS * HOP_MS
    out = {}
    for end in range(first + WINDOW_MS + HOP_MS, int(at[-1]), HOP_MS):
        inside = values[(at >= end - WINDOW_MS) & (at < end)]
        out[end] = float(inside.mean()), float(inside.max())
    return out


def agrees(truth: dict[int, tuple[float, float]], windows: dict[int, Any]) -> bool:
    """Returns whether all windows are present and right, except the last two, which a peer may still hold open."""
    ends = sorted(truth)[:-2]
    return bool(ends) and all(end in windows and np.allclose(windows[end], truth[end], rtol=1e-4) for end in ends)


async def _worker(factory: Supervisor, count: int) -> float:
    factory.spawn("stream-0", ["stream", "--broker", factory.bootstrap])
    if not await factory.drained(300, sink=False):
        raise ProcessError("the worker did not come to the end of the log")
    await asyncio.sleep(1.5)
    measured = status.read(factory.run_dir / "stream-0.json")
    await asyncio.to_thread(factory.processes["stream-0"].stop, 30)
    return float(count / measured["busy"]["cpu_s"])


async def _peer(python: Path, script: str, factory: Supervisor, found: Samples, device: str) -> dict[str, Any] | None:
    child = await asyncio.create_subprocess_exec(
        str(python),
        str(environment.HERE / script),
        factory.bootstrap,
        TOPIC,
        str(found.count),
        device,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=factory.plan.data_dir,
    )
    try:
        out, err = await asyncio.wait_for(child.communicate(), _TIMEOUT_S)
    except TimeoutError:
        child.kill()
        await child.wait()
        return None
    for line in out.decode().splitlines():
        if line.startswith("{"):
            return dict(json.loads(line))
    raise ProcessError(f"{script} printed no result; the end of its errors: {err.decode(errors='replace')[-600:]}")
