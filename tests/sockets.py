"""No network in unit tests: an audit hook refuses TCP and UDP to tests that carry neither `service` nor `apache`."""

from __future__ import annotations

import socket
import sys
from typing import Any

#: What Python reports before it asks the kernel; the socket comes first. `connect_ex` reports `socket.connect` too.
_EVENTS = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
_INTERNET = {socket.AF_INET, socket.AF_INET6}

_allowed = True
_refused: list[str] = []


class SocketRefused(RuntimeError):
    """A test without a mark uses the network."""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _allowed or event not in _EVENTS or arguments[0].family not in _INTERNET:
        return
    _refused.append(
        f"a unit test calls {event.removeprefix('socket.')} with {arguments[1]!r}: mark it with @pytest.mark.service, "
        "or hand the code a small real object of tests/fakes.py instead of an address"
    )
    raise SocketRefused(_refused[-1])


def install() -> None:
    """Adds the hook to this process, once and until it ends; it refuses nothing before `allow(False)`."""
    sys.addaudithook(_hook)


def allow(allowed: bool) -> None:
    """Lets the code that runs from now on use TCP and UDP, or refuses it; forgets what was refused before."""
    global _allowed  # noqa: PLW0603 - one process, one hook
    _allowed = allowed
    _refused.clear()


def refused() -> list[str]:
    """Returns what was refused since the last `allow`, also where the code under test caught the error."""
    return list(_refused)
