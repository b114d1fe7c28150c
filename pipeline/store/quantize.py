"""Sensors round: a tenth of a watt is no short number in binary, but a whole number of tenths is.

Values as whole multiples of their resolution.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.arrays import Floats, Ints

#: Stands for a missing value, by the type of the multiples.
MISSING = {"int32": -(1 << 31), "int64": -(1 << 63)}
_LOOK = 64


def multiples(values: Floats, resolution: float) -> Ints | None:
    """int32 (of float32) or int64 (of float64) that times `resolution`, in float64 and then in the values' own width,
    are exactly `values`; None when some are no multiples. So do the views restore them.

    float32 is worked on as it is: a quotient of whole numbers below 2**24 rounds the same whether it is taken there or
    in float64. From 2**22 on some multiples are taken for none, which costs bytes and nothing else.
    """
    if len(values) > _LOOK and multiples(values[:_LOOK], resolution) is None:
        return None
    wide = values.dtype == np.float64
    scale = round(1 / resolution) if resolution < 1 else 1
    with np.errstate(invalid="ignore", over="ignore"):
        whole = np.rint(values * values.dtype.type(scale) if scale > 1 else values / values.dtype.type(resolution))
        back = (
            whole * resolution if wide else whole / np.float32(scale) if scale > 1 else whole * np.float32(resolution)
        )
        same = back == values
        if not same.all() and not (same | np.isnan(values)).all():
            return None
        if np.fmax.reduce(np.abs(whole)) >= (1 << 53 if wide else 1 << 24):
            return None
        found: Any = whole.astype(np.int64 if wide else np.int32)
    if not same.all():
        found[~same] = MISSING[found.dtype.name]
    return found  # type: ignore[no-any-return]
