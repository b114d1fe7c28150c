"""Prometheus remote write, encoded by hand: WriteRequest{1: TimeSeries{1: Label{1: name, 2: value}, 2: Sample{1:
double, 2: int64}}}, snappy.

https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import cramjam


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def labels(metric: str, device: str) -> bytes:
    """Returns the labels of one series, encoded."""
    return b"".join(
        _field(1, _field(1, n.encode()) + _field(2, v.encode()))
        for n, v in (("__name__", f"gpu_{metric}"), ("device", device))
    )


def request(series: Sequence[bytes], values: Sequence[float], ts_ms: int) -> bytes:
    """Returns one sample of every series, compressed."""
    stamp = b"\x10" + _varint(ts_ms)
    return bytes(
        cramjam.snappy.compress_raw(
            b"".join(
                _field(1, head + _field(2, b"\x09" + struct.pack("<d", value) + stamp))
                for head, value in zip(series, values, strict=True)
            )
        )
    )


HEADERS: Mapping[str, str] = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
