"""The source on exporters that behave as the field's do, where such a recorded peer lies beside the checkout."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from producers.emission import Event, SourceFailure
from producers.sources.dcgm.endpoint import Endpoint
from producers.sources.dcgm.source import Dcgm
from schemas.frame import Frame
from schemas.jobs import ALLOCATION


@pytest.fixture
def field(recorded: Path) -> Iterator[str]:
    """The address of the peer: one path a case."""
    script = recorded / "field" / "exporters.py"
    if not script.exists():
        pytest.skip("no exporters beside this checkout")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, script, str(port)], stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdout is not None
        try:
            assert any(line.strip() == "ready" for line in peer.stdout), "the peer ended"
            yield f"http://127.0.0.1:{port}"
        finally:
            peer.terminate()


@pytest.mark.service(30)
async def test_the_cases_of_the_field_get_their_right_answers(field: str) -> None:
    paths = ["h1", "h2", "mig", "slice", "oldlabels", "grace", "swap", "empty", "promhttp", "basic", "slow"]
    specs = [f"{field}/{path}" for path in paths] + ["R9/n9=http://127.0.0.1:1/metrics"]
    source = Dcgm([Endpoint.parse(s) for s in specs], tick_s=1.0, ticks=3)
    async with asyncio.timeout(25):
        found = [e async for e in source.emissions()]
    rows: Counter[tuple[str, str, str]] = Counter()
    watts: Counter[str] = Counter()
    for frame in (e for e in found if isinstance(e, Frame)):
        for device, board in zip(frame.identity("device"), frame.identity("board"), strict=True):
            rows[frame.kind, device, board] += 1
        if frame.kind == "gpu":
            watts[frame.identity("node")[0]] += round(float(frame.values("power_w").sum()))
    assert rows["gpu", "localhost-GPU0", "GPU-aaaa"] == 3
    assert not [device for kind, device, board in rows if board == "GPU-bbbb"]
    assert watts["mig-node"] == 3 * 350
    assert watts["ts-node"] == 3 * 300
    assert sum(n for (kind, device, _), n in rows.items() if kind == "gpu_instance") == 3 * 7
    assert rows["node", "grace-node-CPU0", ""] == 3
    assert {board for kind, device, board in rows if "swap-node" in device} == {f"GPU-{n * 8}" for n in "ABCD"}
    held = {
        (row["job"], row["share"])
        for e in found
        if isinstance(e, Event) and e.derived is ALLOCATION
        for row in e.batch.to_pylist()
    }
    assert held == {(f"team-{n}/serve-{n}", 0.25) for n in range(4)} | {("ml/train-2", 1.0)}
    reasons = {(e.endpoint.removeprefix(field), e.reason) for e in found if isinstance(e, SourceFailure)}
    assert reasons == {
        ("/h2", "name-clash"),
        ("/empty", "no-gpu"),
        ("/promhttp", "no-gpu"),
        ("/basic", "http-401"),
        ("/slow", "timeout"),
        ("http://127.0.0.1:1/metrics", "unreachable"),
    }
    down = {
        (f.identity("rack")[0], f.identity("device")[0].removeprefix(field))
        for f in found
        if isinstance(f, Frame) and f.kind == "endpoint" and f.values("up")[0] == 0
    }
    assert down == {("R9", "http://127.0.0.1:1/metrics")} | {
        ("", f"/{path}") for path in ("h2", "empty", "promhttp", "basic", "slow")
    }
