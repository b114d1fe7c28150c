"""A long run: memory and lag must stay flat. Sampled every five seconds, drawn as a picture."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bench.stages import Bench, BenchResult
from pipeline.embedded.run_summary import summary
from pipeline.embedded.supervisor import Supervisor
from pipeline.monitoring import status
from pipeline.store import client as store_client

EVERY_S = 5.0
#: Flat: in the second half a process of ours grows by less than this, MB an hour, or by less than a tenth of what it
#: has. (The broker is left out: a Java machine fills its heap, which takes longer than half an hour.)
GROWTH_MB_H = 60.0
LAG_S = 10.0


async def run(bench: Bench, seconds: float, racks: int, picture: Path | None = None) -> BenchResult:
    """`racks` of GB200 at one tick a second for `seconds`; then drained and counted."""
    began, samples = time.monotonic(), list[dict[str, float]]()
    async with bench.factory(("synthetic", "--racks", str(racks)), spool=True) as factory:
        watching = asyncio.create_task(factory.watchdog.run())
        while time.monotonic() - began < seconds:
            await asyncio.sleep(EVERY_S)
            samples.append(_sample(factory, time.monotonic() - began))
            if len(samples) % 60 == 0:
                bench.progress(
                    f"{samples[-1]['at_s']:.0f} s: "
                    + ", ".join(f"{n} {v:.0f}" for n, v in samples[-1].items() if n != "at_s")
                )
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        drained = await factory.finish(drain_s=180)
        client = store_client.connect(factory.clickhouse)
        result = summary(
            client,
            factory.statuses(),
            factory.cpu_s(),
            tick_s=1.0,
            wall_s=time.monotonic() - began,
            drained=drained,
            recycles=factory.watchdog.recycles,
            source=f"synthetic, {racks} racks",
        )
        client.close()
        restarts = {n: p.restarts for n, p in factory.processes.items() if p.restarts}
    if picture is not None:
        draw(
            samples, picture, f"{racks} racks, {result['gpus']:,} GPUs, {result['metrics_per_gpu']} metrics, 1 s ticks"
        )
    growth = {name: _growth(samples, name) for name in samples[0] if name.endswith("_mb")}
    flat = all(
        per_hour < GROWTH_MB_H or per_hour < 0.1 * samples[-1][name]
        for name, per_hour in growth.items()
        if name != "broker_mb"
    )
    lag = float(np.quantile([s["lag_s"] for s in samples[len(samples) // 4 :]], 0.99))
    return {
        **result,
        "restarts": restarts,
        "samples": samples,
        "growth_mb_h": growth,
        "lag_p99_s": round(lag, 2),
        "flat": bool(flat and lag < LAG_S),
        "wrong": result["rows_missing"] + result["rows_duplicate"] + result["dead_letters"] + (not drained),
    }


def _sample(factory: Supervisor, at_s: float) -> dict[str, float]:
    """Every process's own memory (without mapped files), MB, and how old the newest stored sample is, s."""
    found = {"at_s": round(at_s, 1)}
    found |= {f"{name}_mb": round(process.own_bytes() / 1e6, 1) for name, process in factory.processes.items()}
    sink = status.read(factory.run_dir / "sink.json")
    found["lag_s"] = round(sink["newest_age_s"], 2) if sink.get("newest_age_s") is not None else 0.0
    return found


def _growth(samples: list[dict[str, float]], name: str) -> float:
    """MB an hour in the second half of the run, by a straight line."""
    later = [s for s in samples[len(samples) // 2 :] if name in s]
    if len(later) < 3:
        return 0.0
    slope = np.polyfit([s["at_s"] for s in later], [s[name] for s in later], 1)[0]
    return round(float(slope) * 3600, 1)


def draw(samples: list[dict[str, Any]], path: Path, title: str) -> None:
    """Memory above, lag below, over minutes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (memory, lag) = plt.subplots(2, 1, figsize=(10, 6), sharex=True, layout="constrained", height_ratios=(2, 1))
    minutes = [s["at_s"] / 60 for s in samples]
    for name in [n for n in samples[-1] if n.endswith("_mb")]:
        memory.plot(
            minutes, [s.get(name, float("nan")) for s in samples], label=name.removesuffix("_mb"), linewidth=1.4
        )
    memory.set_ylabel("own memory, MB")
    memory.set_ylim(bottom=0)
    memory.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    memory.set_title(title, loc="left", fontsize=10)
    lag.plot(minutes, [s["lag_s"] for s in samples], color="tab:red", linewidth=1.0)
    lag.set_ylabel("age of the newest\nstored sample, s")
    lag.set_ylim(bottom=0)
    lag.set_xlabel("minutes")
    for axes in (memory, lag):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    plt.close(figure)
