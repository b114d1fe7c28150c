"""Pods that hold this node's GPUs, as the kubelet knows them."""

from __future__ import annotations

import importlib.util
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from producers.sources import options
from producers.sources.options import BuildContext, option
from producers.sources.registry import source

if TYPE_CHECKING:
    from producers.sources.source import Source

KUBELET_SOCKET = "/var/lib/kubelet/pod-resources/kubelet.sock"


@source("kubernetes", help="pods that hold this node's GPUs: the kubelet's pod-resources API")
@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """Which kubelet, for which node, and which pods are no jobs."""

    kubelet_socket: str = option(
        "--kubelet-socket", KUBELET_SOCKET, "kubernetes: the kubelet's pod-resources socket.", metavar="PATH"
    )
    node_name: str = option(
        "--node-name",
        "",
        "kubernetes: this node. Default: NODE_NAME of the environment, or the host name.",
        metavar="NAME",
    )
    skip_namespaces: tuple[str, ...] = option(
        "--skip-namespace",
        (),
        "kubernetes: its pods are no jobs, such as those that Slurm runs in. May be repeated.",
        metavar="NAMESPACE",
    )
    tick_s: float = options.tick()
    site: str = options.site()
    ticks: int | None = options.ticks()

    def build(self, _: BuildContext) -> Source:
        from producers.sources.kubernetes.source import Kubernetes

        return Kubernetes(
            self.kubelet_socket,
            self.node_name or os.environ.get("NODE_NAME") or socket.gethostname(),
            tick_s=self.tick_s,
            site=self.site or options.DEFAULT_SITE,
            skip_namespaces=self.skip_namespaces,
            ticks=self.ticks,
        )

    @staticmethod
    def readiness() -> tuple[bool, str]:
        if importlib.util.find_spec("grpc") is None:
            return False, "no grpcio: pip install 'gigawatch[kubernetes]' to read which pods hold this node's GPUs"
        if not Path(KUBELET_SOCKET).exists():
            return False, f"no kubelet here ({KUBELET_SOCKET} does not exist): --source kubernetes reads nothing"
        return True, f"the kubelet's pod-resources socket, {KUBELET_SOCKET}"
