"""The kubelet's ListPodResourcesResponse as pods and the GPUs that they hold. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from producers.sources.kubernetes.protobuf import Message

#: NVIDIA's DRA driver for GPUs; that for ComputeDomains (compute-domain.nvidia.com) hands out channels, no GPUs.
DRA_DRIVER = "gpu.nvidia.com"
#: Resources whose bare numbers are GPU indices; of others, such as those for virtual machines, they are IOMMU groups.
_INDEXED = ("nvidia.com/gpu", "nvidia.com/gpu.shared")

_OLD_MIG = re.compile(r"MIG-(GPU-[^/]+)/(\d+)/\d+")  # GPU instance, compute instance
_GKE = re.compile(r"nvidia(\d+)(?:/gi(\d+))?(?:/vgpu\d+)?")
_DRA_GPU = re.compile(r"gpu-(\d+)")


@dataclass(frozen=True, slots=True)
class GpuPod:
    """A pod that holds GPUs. `devices`: board UUIDs, MIG ids, `UUID/INSTANCE` or names such as `n1-GPU0`, each once."""

    namespace: str
    name: str
    devices: tuple[str, ...]

    @property
    def job(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Listing:
    """One answer of the kubelet. `unknown`: NVIDIA devices whose form of id is not known here."""

    pods: tuple[GpuPod, ...]
    unknown: frozenset[str]


def parse(answer: bytes, node: str, skip_namespaces: Collection[str] = ()) -> Listing:
    """Returns the pods with GPUs, in the order of their names; those of `skip_namespaces` are as if they were not
    there. Raises InvalidProtobuf.
    """
    held: dict[tuple[str, str], set[str]] = defaultdict(set)
    unknown = set()
    for pod in Message(answer).messages(1):
        name, namespace = pod.text(1), pod.text(2)
        if namespace in skip_namespaces:
            continue
        for container in pod.messages(3):
            for given, device in _devices(container, node):
                if device:
                    held[namespace, name].add(device)
                else:
                    unknown.add(given)
    return Listing(
        tuple(GpuPod(*pod, tuple(sorted(devices))) for pod, devices in sorted(held.items())), frozenset(unknown)
    )


def _devices(container: Message, node: str) -> Iterator[tuple[str, str]]:
    """Yields (how the kubelet calls it, the device) of a container's NVIDIA devices; the device is empty where the
    form is not known.
    """
    for group in container.messages(2):
        resource = group.text(1)
        if resource.startswith("nvidia.com/"):
            for given in group.texts(2):
                yield f"{resource} {given}", of_plugin(resource, given, node)
    for claim in container.messages(5):
        for each in claim.messages(4):
            if each.text(2) == DRA_DRIVER:
                pool, given = each.text(3), each.text(4)
                found = _DRA_GPU.fullmatch(given)
                yield f"{DRA_DRIVER} {pool}/{given}", f"{node}-GPU{found[1]}" if found else ""


def of_plugin(resource: str, given: str, node: str) -> str:
    """Returns the device that a device plugin's id means, without the replica of a shared one; empty when it means
    none that is known.
    """
    bare = given.partition("::")[0]
    if old := _OLD_MIG.fullmatch(bare):
        return f"{old[1]}/{old[2]}"
    if bare.startswith(("GPU-", "MIG-")):
        return bare
    if gke := _GKE.fullmatch(bare):
        return f"{node}-GPU{gke[1]}" + (f"/{gke[2]}" if gke[2] else "")
    if bare.isascii() and bare.isdigit() and resource in _INDEXED:
        return f"{node}-GPU{bare}"
    return ""
