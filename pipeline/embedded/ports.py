"""Ports on loopback: a free one, claimed until this process ends, and whether one is served."""

from __future__ import annotations

import random
import socket

from pipeline.embedded.process import ProcessError

_claimed: list[socket.socket] = []


def free_port(preferred: int = 0) -> int:
    """The preferred port on loopback when it is free, else one below the system's range for outgoing connections (from
    32768).

    This process holds it until it ends: no other Gigawatch gets it in the seconds before something listens on it.
    Raises ProcessError.
    """
    for port in (preferred, *random.sample(range(20_000, 32_000), 100)):
        if port and _claim(port):
            return port
    raise ProcessError("no free port on 127.0.0.1")


def _claim(port: int) -> bool:
    """Whether the port is free and now claimed: an abstract socket named after it, which the kernel frees when this
    process ends in any way.
    """
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0gigawatch-port-{port}")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except OSError:
        name.close()
        return False
    _claimed.append(name)
    return True


def port_open(port: int) -> bool:
    """Whether something listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
