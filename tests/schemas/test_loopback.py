"""One answer to which names are this machine's own, for listeners and for Host headers."""

from __future__ import annotations

import pytest

from schemas.loopback import host_is_loopback, is_loopback


@pytest.mark.parametrize("name", ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_names_are_this_machine(name: str) -> None:
    assert is_loopback(name)


@pytest.mark.parametrize("name", ["", "0.0.0.0", "::", "[::]", "10.0.0.7", "localhost.evil.example", "127.0.0.1:80"])  # noqa: S104
def test_every_other_name_is_not(name: str) -> None:
    assert not is_loopback(name)


@pytest.mark.parametrize("host", ["localhost", "localhost:18123", "127.0.0.1:1", "[::1]:80", "[::1]"])
def test_a_request_for_loopback_is_recognised_with_and_without_a_port(host: str) -> None:
    assert host_is_loopback(host)


@pytest.mark.parametrize("host", ["", ":80", "evil.example", "localhost.evil.example:80", "localhost@evil.example",
                                  "evil.example@localhost", "[::1", "10.0.0.7:18080"])  # fmt: skip
def test_a_request_without_host_or_for_another_name_is_refused(host: str) -> None:
    assert not host_is_loopback(host)
