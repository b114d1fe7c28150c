"""Ports: preferred, claimed, given back."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.embedded.ports import free_port

OTHER = (
    "import sys; from pipeline.embedded.ports import free_port; print(free_port(int(sys.argv[1])), "
    "flush=True); sys.stdin.read()"
)


@pytest.mark.service
def test_a_port_is_one_gigawatchs_own_before_anything_listens_and_free_again_when_it_ends() -> None:
    """Two that start in the same second: each broker takes seconds from the choice of its port to the listening."""
    wanted = free_port() + 1
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(wanted)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert other.stdout is not None
    got = int(other.stdout.readline())
    assert free_port(got) != got, "claimed, though nothing listens"
    other.kill()
    other.communicate()
    assert free_port(got) == got


@pytest.mark.service
def test_another_port_when_the_preferred_one_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = free_port(port)
    assert found != port
    assert 20_000 <= found < 32_000, "none that the system gives to outgoing connections"
