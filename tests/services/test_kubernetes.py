"""The source against a server of k8s.io/kubelet's own messages and Go's gRPC, over a real Unix socket.

It is built from tests/data/kubernetes/kubelet with the machine's Go, which fetches the modules that go.sum names.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from producers.emission import Emission, Event, SourceFailure
from producers.sources.kubernetes.source import Kubernetes
from schemas.jobs import ALLOCATION
from tests.conftest import DATA, ROOT

HERE = DATA / "kubernetes"
UUID = "GPU-8f0c1a55-2d3e-4c77-9a10-00000000000"
pytestmark = [
    pytest.mark.service(60),
    pytest.mark.xdist_group("kubelet"),
    pytest.mark.skipif(shutil.which("go") is None, reason="no Go to build the kubelet's peer with"),
]


@pytest.fixture(scope="module")
def binary() -> Path:
    built = ROOT / "build" / "kubelet-peer"
    subprocess.run(
        ["go", "build", "-buildvcs=false", "-o", str(built), "."], cwd=HERE / "kubelet", check=True, timeout=600
    )
    return built


class Kubelet:
    """The peer's process, its socket, and the state that it answers with."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary, self._state, self.socket = binary, folder / "state.json", folder / "kubelet.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def lists(self, state: dict[str, Any]) -> None:
        following = self._state.with_suffix(".new")
        following.write_text(json.dumps(state))
        following.rename(self._state)

    def start(self) -> None:
        self._process = subprocess.Popen([self._binary, self.socket, self._state])

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        self.socket.unlink(missing_ok=True)


@pytest.fixture
def kubelet(binary: Path) -> Iterator[Kubelet]:
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        peer = Kubelet(binary, Path(folder))
        peer.lists(json.loads((HERE / "pods.json").read_text()))
        peer.start()
        yield peer
        peer.kill()


async def allocations(run: AsyncGenerator[Emission]) -> dict[str, tuple[list[str], float, bool]]:
    """The next allocations that are emitted: job -> devices, share, whether it holds them still."""
    async with asyncio.timeout(30):
        async for emission in run:
            if isinstance(emission, Event) and emission.derived is ALLOCATION:
                rows = emission.batch.to_pylist()
                return {r["job"]: (r["devices"], r["share"], r["ended"].timestamp() == 0) for r in rows}
    raise AssertionError("the source has ended")


async def failure(run: AsyncGenerator[Emission]) -> str:
    async with asyncio.timeout(30):
        async for emission in run:
            if isinstance(emission, SourceFailure):
                return emission.reason
    raise AssertionError("the source has ended")


def test_the_recorded_answer_is_what_the_kubelets_messages_make(binary: Path) -> None:
    made = subprocess.run([binary, "encode", HERE / "pods.json"], capture_output=True, check=True, timeout=60)
    assert made.stdout == (HERE / "pods.pb").read_bytes()


async def test_who_holds_which_boards_follows_the_kubelet_over_its_restart(kubelet: Kubelet) -> None:
    source = Kubernetes(str(kubelet.socket), "n1", tick_s=0.5, skip_namespaces=["slurm"])
    run = source.emissions()
    assert await allocations(run) == {
        "team-a/llama-0": ([f"{UUID}0", f"{UUID}1"], 1.0, True),
        "team-b/chat-5d9f": ([f"{UUID}2"], 0.5, True),
        "team-b/embed-77c4": ([f"{UUID}2"], 0.5, True),
        "team-c/notebook-1": ([f"{UUID}3/2", "MIG-5c89852c-d268-5c3f-9b07-3f2a14f6d2c1"], 1.0, True),
        "team-d/nvl72-worker-3": (["n1-GPU4"], 1.0, True),
    }
    state = json.loads((HERE / "pods.json").read_text())
    state["podResources"][1]["name"] = "llama-1"  # on the same boards, between two polls
    kubelet.lists(state)
    assert await allocations(run) == {
        "team-a/llama-0": ([f"{UUID}0", f"{UUID}1"], 1.0, False),
        "team-a/llama-1": ([f"{UUID}0", f"{UUID}1"], 1.0, True),
    }
    kubelet.kill()
    assert await failure(run) == "no-socket"
    kubelet.lists({})  # a kubelet that has just started
    kubelet.start()
    polls = asyncio.create_task(allocations(run))
    async with asyncio.timeout(30):
        while source.errors:  # noqa: ASYNC110 - a source has no event for it
            await asyncio.sleep(0.05)
    assert not polls.done(), "it answers again, without a pod, and nothing has ended"
    state["podResources"] = [p for p in state["podResources"] if p["name"] != "embed-77c4"]
    kubelet.lists(state)
    found = await polls
    await run.aclose()
    # one row a job here, the last: the pod that stays has its board alone from now on
    assert found == {
        "team-b/embed-77c4": ([f"{UUID}2"], 0.5, False),
        "team-b/chat-5d9f": ([f"{UUID}2"], 1.0, True),
    }
