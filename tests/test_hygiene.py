"""A file that should not be in the repository is named, with what to do."""

from __future__ import annotations

import pytest

from tests.hygiene import MOST_BYTES, complaints

KEY = "-----BEGIN {}PRIVATE " + "KEY-----\n"


@pytest.mark.parametrize(
    ("name", "body", "complaint"),
    [
        ("a.py", b"x = 1", "exactly one line end"),
        ("a.py", b"x = 1\n\n", "exactly one line end"),
        ("a.md", b"x\n" * MOST_BYTES, "bytes are more than 400,000"),
        ("a.pem", KEY.format("").encode(), "private key"),
        ("a.pem", KEY.format("RSA ").encode(), "private key"),
        ("a.bin", b"\0" + KEY.format("EC ").encode(), "private key"),
    ],
)
def test_what_does_not_belong_is_named(name: str, body: bytes, complaint: str) -> None:
    (found,) = complaints(name, body)
    assert found.startswith(f"{name}: ")
    assert complaint in found


@pytest.mark.parametrize(
    ("name", "body"),
    [("a.py", b"x = 1\n"), ("__init__.py", b""), ("a.png", b"\x89PNG\0\1"), ("tests/golden/cut-short.arrow", b"abc")],
)
def test_what_belongs_passes(name: str, body: bytes) -> None:
    assert complaints(name, body) == []
