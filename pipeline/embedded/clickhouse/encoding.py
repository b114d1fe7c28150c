"""HTTP content encodings, with a bound on what a small body may grow to."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import lz4.frame
from backports import zstd

from schemas.errors import GigawatchError


class EncodingError(GigawatchError, ValueError):
    """A body that does not decode, or grows past its bound."""


_DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(47),
    "deflate": lambda: zlib.decompressobj(zlib.MAX_WBITS),
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
}


def decompress(data: bytes, encoding: str, limit: int) -> bytes:
    """The plain body, of one member after another; EncodingError for an unknown encoding, damage, or more than `limit`
    bytes.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return data
    make = _DECODERS.get(encoding)
    if make is None:
        raise EncodingError(f"Content-Encoding {encoding!r} is not one of {', '.join(_DECODERS)}")
    out: list[bytes] = []
    size = 0
    while data or not out:
        member = make()
        try:
            plain = member.decompress(data, limit - size + 1)
        except (zlib.error, RuntimeError, EOFError, zstd.ZstdError) as err:
            raise EncodingError(f"the body is not valid {encoding}: {err}") from err
        out.append(plain)
        size += len(plain)
        if size > limit:
            raise EncodingError(f"the {encoding} body grows past {limit} bytes")
        if not member.eof:
            raise EncodingError(f"the {encoding} body ends early")
        data = member.unused_data or b""
    return b"".join(out)


def compress(data: bytes, accepted: str) -> tuple[bytes, str]:
    """(body, encoding used): the first of lz4, zstd, gzip that the client accepts; the plain body and '' for none."""
    names = {part.split(";")[0].strip().lower() for part in accepted.split(",")}
    if "lz4" in names:
        return lz4.frame.compress(data), "lz4"
    if "zstd" in names:
        return zstd.compress(data, 1), "zstd"
    if "gzip" in names:
        packer = zlib.compressobj(1, wbits=31)
        return packer.compress(data) + packer.flush(), "gzip"
    return data, ""
