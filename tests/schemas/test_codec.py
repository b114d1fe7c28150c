"""Frames on the wire: golden payloads, round trips, and refusals that say why."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import derived
from schemas.catalogue import KINDS
from schemas.codec import Decoder, InvalidFrame, encode, encode_batch
from schemas.derived_stream import Derived
from schemas.frame import build, schema
from schemas.identity import IDENTITY
from schemas.metric import BLANK_FP64, BLANK_INT32, BLANK_INT64
from schemas.validation import mask_invalid, validate_timestamps
from tests.make_samples import START_MS, goldens, small_frame

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED: dict[str, str] = json.loads((GOLDEN / "expected.json").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_golden_payloads(name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    if EXPECTED[name] == "ok":
        frame = Decoder().decode(data)
        assert frame.kind == "gpu"
        assert frame.identity("device") == ["G0", "G1"]
        assert frame.identity("node") == ["N01", "N01"]
        assert frame.values("power_w").tolist() == pytest.approx([631.9, 70.0])
        assert frame.ts_ms().tolist() == [START_MS, START_MS]
    else:
        with pytest.raises(InvalidFrame) as caught:
            Decoder().decode(data)
        assert caught.value.reason == EXPECTED[name]
        assert caught.value.detail


def test_golden_payloads_are_all_there() -> None:
    assert set(EXPECTED) == set(goldens()) == {p.name for p in GOLDEN.glob("*.arrow")}


def test_what_we_write_today_is_the_golden_payload() -> None:
    assert encode(small_frame()) == (GOLDEN / "v3-gpu.arrow").read_bytes()


def test_a_frame_of_version_2_gives_its_jobs_apart_from_who_it_is() -> None:
    frame = Decoder().decode((GOLDEN / "v2-gpu.arrow").read_bytes())
    assert frame.jobs is not None
    assert frame.jobs.to_pylist() == ["", "train"]
    assert frame.identity("board") == ["", ""]
    assert Decoder().decode((GOLDEN / "v3-gpu.arrow").read_bytes()).jobs is None


def test_a_derived_message_of_version_2_is_read() -> None:
    rows = derived.SCORE.build_rows([_row(derived.SCORE)])
    names = [n for n in rows.schema.names if n != "board"]
    old = rows.select(names).replace_schema_metadata({b"gigawatch": b"2/score"})
    stream, batch = derived.decode(encode_batch(old))
    assert stream is derived.SCORE
    assert batch.column("board").to_pylist() == [""]
    assert batch.column("job").to_pylist() == rows.column("job").to_pylist()


@given(st.sampled_from(list(KINDS)), st.integers(1, 40), st.data())
@settings(max_examples=60, deadline=None)
def test_round_trip(kind: str, rows: int, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from([m.name for m in KINDS[kind].stored]), unique=True))
    text = st.text(max_size=8)
    identity = {n: data.draw(st.lists(text, min_size=rows, max_size=rows)) for n in IDENTITY}
    values = {n: data.draw(st.lists(st.floats(width=32), min_size=rows, max_size=rows)) for n in names}
    stamps = np.array(data.draw(st.lists(st.integers(0, 2**42), min_size=rows, max_size=rows)))
    frame = build(kind, stamps, identity, values)
    back = Decoder().decode(encode(frame), kind)
    assert back.batch.equals(frame.batch) or all(
        np.array_equal(back.values(n), frame.values(n), equal_nan=True) for n in names
    )
    assert back.ts_ms().tolist() == stamps.tolist()
    assert {n: back.identity(n) for n in IDENTITY} == identity


@given(st.binary(max_size=400), st.integers(0, 1503), st.binary(min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_are_refused_or_read_never_worse(noise: bytes, at: int, patch: bytes) -> None:
    good, reasons = encode(small_frame()), set()
    for data in (noise, good[:at], good[:at] + patch + good[at + len(patch) :]):
        try:
            frame = Decoder().decode(data)
        except InvalidFrame as err:
            reasons.add(err.reason)
        else:
            assert frame.rows > 0
            frame.identity("device")
    assert reasons <= {"size", "not-arrow", "version", "kind", "schema", "truncated", "corrupt", "empty"}


def test_schemas_are_cached_by_their_bytes() -> None:
    decoder = Decoder()
    first, second = decoder.decode(encode(small_frame())), decoder.decode(encode(small_frame()))
    assert first.batch.schema is second.batch.schema or first.batch.schema == second.batch.schema
    assert len(decoder._schemas) == 1


def test_expecting_another_kind_is_refused() -> None:
    with pytest.raises(InvalidFrame, match="kind: a gpu frame where power was expected"):
        Decoder().decode(encode(small_frame()), "power")


def test_a_slice_is_encoded_alone() -> None:
    frame = small_frame()
    part = type(frame)("gpu", frame.batch.slice(1, 1))
    assert Decoder().decode(encode(part)).identity("device") == ["G1"]
    assert len(encode(part)) < len(encode(frame))


def test_unknown_metrics_are_not_built() -> None:
    with pytest.raises(KeyError, match="nosuch"):
        build("gpu", 0, {"device": ["G"]}, {"nosuch": [1.0]})


@pytest.mark.parametrize("blank", [BLANK_INT32, BLANK_INT32 + 3, float(BLANK_INT64), 9223372036854775794.0, BLANK_FP64])
def test_sentinels_become_missing_and_are_counted(blank: float) -> None:
    identity = {"device": ["a", "b"]}
    counts: Counter[tuple[str, str]] = Counter()
    cleaned = mask_invalid(build("gpu", START_MS, identity, {"temp_c": [blank, 50.0], "energy_j": [1.0, 2.0]}), counts)
    assert np.isnan(cleaned.values("temp_c")[0])
    assert cleaned.values("temp_c")[1] == 50.0
    assert counts == {("temp_c", "sentinel"): 1}


def test_impossible_and_infinite_values_are_counted_apart() -> None:
    counts: Counter[tuple[str, str]] = Counter()
    frame = build(
        "gpu", START_MS, {"device": ["a", "b", "c", "d"]}, {"temp_c": [-200.0, float("inf"), float("nan"), 50.0]}
    )
    assert np.isnan(mask_invalid(frame, counts).values("temp_c")[:3]).all()
    assert counts == {("temp_c", "range"): 1, ("temp_c", "infinite"): 1}


def test_a_clean_frame_is_not_copied() -> None:
    frame = small_frame()
    assert mask_invalid(frame, Counter()) is frame


@pytest.mark.parametrize(
    ("first", "last", "reason"),
    [(0, 100_000, "future"), (-8 * 86_400_000, 0, "stale"), (-1_748_250_000_000, -1_748_250_000_000, "seconds")],
)
def test_times_that_cannot_be(first: int, last: int, reason: str) -> None:
    with pytest.raises(InvalidFrame) as caught:
        validate_timestamps(START_MS + first, START_MS + last, START_MS, 86_400_000)
    assert caught.value.reason == reason


def test_times_that_can_be() -> None:
    validate_timestamps(START_MS - 86_000_000, START_MS + 59_000, START_MS, 86_400_000)


_FILL: dict[str, Any] = {
    "timestamp[ms, tz=UTC]": START_MS,
    "string": "x",
    "list<item: uint32>": [1, 2],
    "list<item: string>": ["x", "y"],
}


def _row(stream: Derived) -> dict[str, Any]:
    return {name: _FILL.get(str(dtype), 1) for name, dtype in stream.columns}


@pytest.mark.parametrize("name", derived.DERIVED)
def test_derived_streams_round_trip(name: str) -> None:
    stream = derived.DERIVED[name]
    batch = stream.build_rows([_row(stream)] * 3)
    found, back = derived.decode(stream.encode(batch))
    assert found is stream
    assert back.equals(batch)
    assert set(stream.key) <= {n for n, _ in stream.columns}


def test_derived_refuses_what_is_not_derived() -> None:
    for data in (b"", b"garbage", encode(small_frame())):
        with pytest.raises(InvalidFrame):
            derived.decode(data)


def test_schema_keeps_catalogue_order() -> None:
    assert schema("gpu", ["temp_c", "power_w"]).names[-2:] == ["power_w", "temp_c"]


def test_an_old_frame_with_a_column_that_cannot_be_cast_is_refused() -> None:
    """Found by fuzzing: Arrow has no cast from uint64 to time stamps."""
    names = ["site", "rack", "hostname", "device", "model"]
    fields = [
        pa.field("ts", pa.uint64(), nullable=False),
        *(pa.field(n, pa.string(), nullable=False) for n in names),
        pa.field("temp_c", pa.float32(), nullable=False),
    ]
    wire = pa.schema(fields, {b"gigawatch": b"1/gpu"})
    batch = pa.RecordBatch.from_arrays(
        [pa.array([1], pa.uint64()), *(pa.array(["x"]) for _ in names), pa.array([1.0], pa.float32())], schema=wire
    )
    with pytest.raises(InvalidFrame, match="schema: Unsupported cast"):
        Decoder().decode(encode_batch(batch))
