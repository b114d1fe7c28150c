"""The source against a gRPC server on a Unix socket that answers with the bytes it is given."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from producers.emission import Emission, Event, SourceFailure
from producers.sources.kubernetes import KubernetesSettings
from producers.sources.kubernetes.source import LIST, Kubernetes
from producers.sources.options import BuildContext
from schemas.jobs import ALLOCATION, JOB
from tests.conftest import DATA

RECORDED = (DATA / "kubernetes" / "pods.pb").read_bytes()
TICK_S = 0.25


class BytesKubelet(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers List with `answer`, with the error `code`, or not at all while `hangs`."""

    def __init__(self, path: Path) -> None:
        self.answer, self.code, self.hangs = RECORDED, grpc.StatusCode.OK, False
        self._path, self._server = path, grpc.aio.server()

    async def start(self) -> None:
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers([self])
        self._server.add_insecure_port(f"unix://{self._path}")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)
        self._path.unlink(missing_ok=True)

    def service(self, call: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._list) if call.method == LIST else None

    async def _list(self, _: bytes, context: Any) -> bytes:
        if self.hangs:
            await asyncio.Event().wait()
        if self.code is not grpc.StatusCode.OK:
            await context.abort(self.code, "as ordered")
        return self.answer


@pytest.fixture
def path() -> Iterator[Path]:
    """Short: the name of a Unix socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        yield Path(folder) / "kubelet.sock"


@pytest.fixture
async def kubelet(path: Path) -> AsyncIterator[BytesKubelet]:
    server = BytesKubelet(path)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def polls(path: Path) -> AsyncIterator[AsyncGenerator[Emission]]:
    run = Kubernetes(str(path), "n1", tick_s=TICK_S, skip_namespaces=["slurm"]).emissions()
    yield run
    await run.aclose()


async def take(run: AsyncGenerator[Emission]) -> Emission:
    async with asyncio.timeout(20):
        return await anext(run)


async def failure(run: AsyncGenerator[Emission], reason: str) -> SourceFailure:
    """The first emission of the reason; others may come before it while a server starts or stops."""
    while True:
        found = await take(run)
        assert isinstance(found, SourceFailure), "a failed poll changes no hold"
        if found.reason == reason:
            return found


async def test_the_pods_are_emitted_as_jobs_and_allocations(
    kubelet: BytesKubelet, polls: AsyncGenerator[Emission]
) -> None:
    jobs, allocations = await take(polls), await take(polls)
    assert isinstance(jobs, Event)
    assert isinstance(allocations, Event)
    assert (jobs.derived, allocations.derived) == (JOB, ALLOCATION)
    (row,) = [r for r in allocations.batch.to_pylist() if r["job"] == "team-d/nvl72-worker-3"]
    assert (row["site"], row["scheduler"], row["node"], row["devices"]) == ("site-1", "kubernetes", "n1", ["n1-GPU4"])
    assert row["started"] == row["seen"]
    assert row["ended"].timestamp() == 0
    assert "slurm/slurmd-n1" not in jobs.batch["job"].to_pylist()


async def test_a_kubelet_that_restarts_fails_polls_and_ends_nothing(
    kubelet: BytesKubelet, polls: AsyncGenerator[Emission]
) -> None:
    await take(polls)
    before = await take(polls)
    assert isinstance(before, Event)
    await kubelet.stop()
    lost = await failure(polls, "no-socket")
    assert lost.endpoint.startswith("n1:/")
    assert lost.endpoint.endswith("kubelet.sock")
    kubelet.code = grpc.StatusCode.INTERNAL
    await kubelet.start()
    assert (await failure(polls, "internal")).site == "site-1"
    kubelet.code, kubelet.hangs = grpc.StatusCode.OK, True
    await failure(polls, "timeout")
    kubelet.hangs, kubelet.answer = False, RECORDED.replace(b"llama-0", b"llama-9")
    after = [await take(polls), await take(polls)]
    rows = [r for e in after if isinstance(e, Event) and e.derived is ALLOCATION for r in e.batch.to_pylist()]
    assert {(r["job"], r["ended"].timestamp() > 0) for r in rows} == {
        ("team-a/llama-0", True),
        ("team-a/llama-9", False),
    }


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, "unimplemented"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "resource-exhausted"),
        (grpc.StatusCode.PERMISSION_DENIED, "permission-denied"),
    ],
)
async def test_a_refusal_has_the_kubelets_own_word(
    kubelet: BytesKubelet, polls: AsyncGenerator[Emission], code: grpc.StatusCode, reason: str
) -> None:
    kubelet.code = code
    found = await take(polls)
    assert isinstance(found, SourceFailure)
    assert found.reason == reason


async def test_bytes_that_are_no_answer_are_a_failure_of_the_poll(
    kubelet: BytesKubelet, polls: AsyncGenerator[Emission]
) -> None:
    kubelet.answer = RECORDED[:-1]
    found = await take(polls)
    assert isinstance(found, SourceFailure)
    assert found.reason == "invalid-answer"


async def test_without_a_socket_every_poll_fails_and_the_status_has_why(path: Path) -> None:
    source = Kubernetes(str(path), "n1", tick_s=0.05, ticks=3)
    found = [e async for e in source.emissions()]
    assert [e.reason for e in found if isinstance(e, SourceFailure)] == ["no-socket"] * 3
    assert "is the folder mounted?" in source.errors[source.endpoint]


async def test_a_socket_that_nobody_serves_is_unreachable(path: Path) -> None:
    path.touch()
    (found,) = [e async for e in Kubernetes(str(path), "n1", tick_s=0.5, ticks=1).emissions()]
    assert isinstance(found, SourceFailure)
    assert found.reason == "unreachable"


async def test_an_answer_clears_the_status(kubelet: BytesKubelet, path: Path) -> None:
    source = Kubernetes(str(path), "n1", tick_s=TICK_S)
    run = source.emissions()
    kubelet.code = grpc.StatusCode.INTERNAL
    await failure(run, "internal")
    assert source.errors[source.endpoint].startswith("internal: the kubelet refuses: as ordered")
    kubelet.code = grpc.StatusCode.OK
    assert isinstance(await take(run), Event)
    assert not source.errors
    await run.aclose()


def test_the_node_is_the_option_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "from-env")
    context = BuildContext(1_750_000_000)
    assert "of from-env," in KubernetesSettings().build(context).describe
    assert "of given," in KubernetesSettings(node_name="given").build(context).describe
