"""Whole multiples of a resolution give back exactly the values that they were made of."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.store.quantize import MISSING, multiples
from schemas.arrays import Floats, Ints


def restored(whole: Ints, resolution: float) -> Floats:
    """As the views do it."""
    values = np.where(whole == MISSING[whole.dtype.name], np.nan, whole * np.float64(resolution))
    return values if whole.dtype == np.int64 else values.astype(np.float32)


@given(
    st.lists(st.integers(-(4 * 10**6), 4 * 10**6), min_size=1, max_size=200),
    st.sampled_from([0.001, 0.1, 1.0, 10.0, 15.0, 100.0, 1e6]),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 2**32),
)
@settings(max_examples=300, deadline=None)
def test_multiples_give_back_exactly_what_they_were_made_of(
    whole: list[int], resolution: float, dtype: str, seed: int
) -> None:
    values = (np.array(whole) * resolution).astype(dtype)
    values[np.random.default_rng(seed).random(len(values)) < 0.1] = np.nan
    found = multiples(values, resolution)
    assert found is not None
    assert np.array_equal(restored(found, resolution), values, equal_nan=True)
    off = values.copy()
    off[-1] = resolution * 3.3
    assert multiples(off, resolution) is None
