"""HTTP content encodings, with a bound on what a small body may grow to."""

from __future__ import annotations

import zlib

import lz4.frame
from backports import zstd


class EncodingError(ValueError):
    """A body that does not decode, or grows past its bound."""


def decompress(data: bytes, encoding: str, limit: int) -> bytes:
    """The plain body; EncodingError for an unknown encoding, damage, or more than `limit` bytes."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return data
    try:
        if encoding in ("gzip", "deflate"):
            inflater = zlib.decompressobj(47 if encoding == "gzip" else zlib.MAX_WBITS)
            out = inflater.decompress(data, limit + 1)
            whole = inflater.eof
        elif encoding == "lz4":
            frame = lz4.frame.LZ4FrameDecompressor()
            out = frame.decompress(data, limit + 1)
            whole = frame.eof
        elif encoding == "zstd":
            stream = zstd.ZstdDecompressor()
            out = stream.decompress(data, limit + 1)
            whole = stream.eof
        else:
            raise EncodingError(f"Content-Encoding {encoding!r} is not one of gzip, deflate, lz4, zstd")
    except (zlib.error, RuntimeError, zstd.ZstdError) as err:
        raise EncodingError(f"the body is not valid {encoding}: {err}") from err
    if len(out) > limit:
        raise EncodingError(f"the {encoding} body grows past {limit} bytes")
    if not whole:
        raise EncodingError(f"the {encoding} body ends early")
    return bytes(out)


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
