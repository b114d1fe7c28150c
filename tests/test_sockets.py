"""A unit test that opens a TCP or UDP socket fails, and reads what to do about it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests import sockets
from tests.conftest import ROOT

LOOPBACK = ("127.0.0.1", 9)
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


@contextmanager
def refusal() -> Iterator[None]:
    """The block within is refused, once; the refusal is forgotten, since it would fail the test."""
    with pytest.raises(sockets.SocketRefused, match=r"mark it with @pytest\.mark\.service, or hand"):
        yield
    assert len(sockets.refused()) == 1
    sockets.allow(False)


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (TCP, lambda s: s.connect(LOOPBACK)),
        (TCP, lambda s: s.connect_ex(LOOPBACK)),
        (TCP, lambda s: s.bind(("127.0.0.1", 0))),
        (UDP, lambda s: s.sendto(b"x", LOOPBACK)),
        (UDP, lambda s: s.connect(LOOPBACK)),
    ],
)
def test_tcp_and_udp_are_refused_with_what_to_do(
    kind: socket.SocketKind, use: Callable[[socket.socket], object]
) -> None:
    with closing(socket.socket(socket.AF_INET, kind)) as sock, refusal():
        use(sock)


async def test_asyncio_is_refused_too() -> None:
    with refusal():
        await asyncio.open_connection(*LOOPBACK)


def test_what_stays_in_the_process_is_allowed(tmp_path: Path) -> None:
    one, other = socket.socketpair()
    with closing(one), closing(other), closing(socket.socket(socket.AF_UNIX)) as named:
        one.sendall(b"x")
        assert other.recv(1) == b"x"
        named.bind(str(tmp_path / "s"))
    assert sockets.refused() == []


def test_an_error_that_is_caught_fails_the_test_and_a_mark_allows_it(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import contextlib, socket, pytest\n"
        "def test_caught():\n"
        "    with contextlib.suppress(Exception), socket.socket() as s:\n"
        "        s.bind(('127.0.0.1', 0))\n"
        "@pytest.mark.service\n"
        "def test_marked():\n"
        "    with socket.socket() as s:\n"
        "        s.bind(('127.0.0.1', 0))\n"
    )
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "pyproject.toml", f"--rootdir={ROOT}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "FAILED" in done.stdout
    assert "a unit test calls bind with ('127.0.0.1', 0): mark it" in done.stdout
