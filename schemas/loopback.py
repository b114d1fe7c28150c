"""Which names are this machine's own: an address to listen on, and the Host of a request."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(name: str) -> bool:
    """Whether an address (with or without brackets, no port) is reached from this machine alone.

    An empty name is not: to listen on it is to listen on every address.
    """
    name = name.removeprefix("[").removesuffix("]")
    try:
        return name.lower() == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_is_loopback(host: str) -> bool:
    """Whether a Host header names this machine's loopback address, so that no name made to point here passes.

    A request without Host is refused with the others: every browser sends one, and it proves nothing.
    """
    try:
        parts = urlsplit(f"//{host}")
    except ValueError:  # brackets that do not close
        return False
    return "@" not in host and is_loopback(parts.hostname or "")
