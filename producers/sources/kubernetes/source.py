"""The kubelet's pod-resources API over its Unix socket, asked once a tick."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from pathlib import Path

from producers.emission import Emission, Event, SourceFailure
from producers.sources.kubernetes.holds import PodHolds
from producers.sources.kubernetes.parse import parse
from producers.sources.kubernetes.protobuf import InvalidProtobuf
from producers.sources.source import SourceError, Ticker
from schemas.jobs import ALLOCATION, JOB

try:
    import grpc
    import grpc.aio
except ImportError as err:
    raise SourceError("kubernetes: the package grpcio is missing: pip install 'gigawatch[kubernetes]'") from err

log = logging.getLogger("gigawatch.kubernetes")

LIST = "/v1.PodResourcesLister/List"
#: What the kubelet itself allows for an answer.
MAX_ANSWER = 16 << 20
_CHANNEL = [
    ("grpc.default_authority", "localhost"),  # else it is the socket's path, which Go's servers refuse
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_ANSWER),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a kubelet that restarts is back within seconds
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class Kubernetes:
    """Asks the kubelet for its pods once a tick; an answer must come within 80 % of it. A poll that fails is a
    SourceFailure and ends no hold. `errors` has a sentence while the last poll failed.
    """

    def __init__(
        self,
        path: str,
        node: str,
        *,
        tick_s: float = 1.0,
        site: str = "site-1",
        skip_namespaces: Collection[str] = (),
        ticks: int | None = None,
    ) -> None:
        self._path, self._node, self._site = Path(path).absolute(), node, site
        self._tick_s, self._ticks, self._skip = tick_s, ticks, frozenset(skip_namespaces)
        self._holds = PodHolds(site, node, round(tick_s * 1000))
        self._reason = ""
        self._unknown: set[str] = set()
        self.errors: dict[str, str] = {}

    @property
    def endpoint(self) -> str:
        return f"{self._node}:{self._path}"

    @property
    def describe(self) -> str:
        return f"kubernetes: pods with GPUs of {self._node}, from {self._path}, every {self._tick_s:g} s"

    async def emissions(self) -> AsyncGenerator[Emission]:
        ticker, done = Ticker(self._tick_s), 0
        async with grpc.aio.insecure_channel(f"unix://{self._path}", options=_CHANNEL) as channel:
            ask = channel.unary_unary(LIST)  # bytes to bytes: `parse` reads them
            while self._ticks is None or done < self._ticks:
                stamp = await ticker.wait()
                try:
                    answer = await ask(b"", timeout=0.8 * self._tick_s)
                    listing = await asyncio.to_thread(parse, answer, self._node, self._skip)
                except grpc.aio.AioRpcError as err:
                    yield self._failed(*self._why(err), stamp)
                except InvalidProtobuf as err:
                    yield self._failed("invalid-answer", f"its answer is no ListPodResourcesResponse: {err}", stamp)
                else:
                    self._answered(listing.unknown)
                    allocations, jobs = self._holds.update(listing.pods, stamp)
                    if jobs:
                        yield Event(JOB, JOB.build_rows(jobs))
                    if allocations:
                        yield Event(ALLOCATION, ALLOCATION.build_rows(allocations))
                done += 1

    def _why(self, err: grpc.aio.AioRpcError) -> tuple[str, str]:
        """Returns the reason and its details."""
        code, details = err.code(), err.details() or ""
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return "timeout", f"no answer within {0.8 * self._tick_s:g} s"
        if code is grpc.StatusCode.UNAVAILABLE and not self._path.exists():
            return "no-socket", "there is no such socket: is this a Kubernetes node, and is the folder mounted?"
        if code is grpc.StatusCode.UNAVAILABLE:
            return "unreachable", f"the kubelet cannot be reached: {details}"
        return code.name.lower().replace("_", "-"), f"the kubelet refuses: {details}"

    def _failed(self, reason: str, detail: str, stamp: int) -> SourceFailure:
        """The failure, noted for the status; logged when its reason is a new one."""
        sentence = " ".join(f"{reason}: {detail}".split())[:300]
        if self._reason != reason:
            log.warning("%s: %s", self.endpoint, sentence)
        self._reason, self.errors[self.endpoint] = reason, sentence
        return SourceFailure(endpoint=self.endpoint, reason=reason, ts_ms=stamp, site=self._site)

    def _answered(self, unknown: Collection[str]) -> None:
        if self._reason:
            log.info("%s answers again", self.endpoint)
        self._reason = ""
        self.errors.clear()
        for device in sorted(set(unknown) - self._unknown):
            log.warning("%s: the device %r has an id of no known form and is left out", self.endpoint, device)
        self._unknown = set(unknown)
