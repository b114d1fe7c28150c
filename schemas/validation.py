"""What is not a measurement: sentinels and impossible values become missing (NaN), counted by metric and reason."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from schemas.arrays import Bools, Floats
from schemas.codec import InvalidFrame
from schemas.frame import Frame
from schemas.identity import IDENTITY
from schemas.metric import Metric

Counts = Counter[tuple[str, str]]

#: A sample may be this far ahead of the time at which Kafka got it, and this old.
FUTURE_MS = 60_000
MAX_AGE_MS = 86_400_000
BEHIND_MS = 60_000
_QUARTER_MS = 900_000
_MOST_QUARTERS = 14 * 4


def invalid_masks(metric: Metric, values: Floats) -> dict[str, Bools]:
    """Where `values` are no measurement, by reason: `sentinel` (a vendor's "not supported"), `range` (physically
    impossible), `infinite`; empty
    when nothing is wrong."""
    with np.errstate(invalid="ignore"):
        # min and max skip no NaN, so one fast pass finds whether all values are valid
        low, high = np.fmin.reduce(values), np.fmax.reduce(values)
        if np.isnan(low) or (low >= metric.lo and high <= metric.hi):
            return {}
        bad = (values < metric.lo) | (values > metric.hi)
        sentinel = bad & (np.abs(values) >= min(metric.sentinels)) & (np.abs(values) < np.inf)
        infinite = bad & np.isinf(values)
    return {
        reason: mask
        for reason, mask in (("sentinel", sentinel), ("infinite", infinite), ("range", bad & ~sentinel & ~infinite))
        if mask.any()
    }


def mask_invalid_values(metric: Metric, values: Floats, counts: Counts) -> Floats:
    """`values` with what is `impossible` replaced by NaN and counted; the same array when nothing was wrong."""
    found = invalid_masks(metric, values)
    if not found:
        return values
    cleaned = values.copy()
    for reason, mask in found.items():
        counts[metric.name, reason] += int(np.count_nonzero(mask))
        cleaned[mask] = np.nan
    return cleaned


def mask_invalid(frame: Frame, counts: Counts) -> Frame:
    """The frame with every impossible value made missing; the very same frame when nothing was wrong."""
    columns: list[pa.Array] | None = None
    for index in range(1 + len(IDENTITY), frame.batch.num_columns):
        name = frame.batch.schema.field(index).name
        values = np.asarray(frame.batch.column(index))
        cleaned = mask_invalid_values(frame.catalogue[name], values, counts)
        if cleaned is not values:
            if columns is None:
                columns = list(frame.batch.columns)
            columns[index] = pa.array(cleaned)
    if columns is None:
        return frame
    return Frame(frame.kind, pa.RecordBatch.from_arrays(columns, schema=frame.batch.schema))


def validate_timestamps(first_ms: int, last_ms: int, kafka_ms: int, max_age_ms: int) -> None:
    """Raises InvalidFrame with reason `seconds`, `stale` or `future` for a frame whose samples span first to last."""
    if last_ms > kafka_ms + FUTURE_MS:
        raise InvalidFrame("future", f"{(last_ms - kafka_ms) / 1000:.0f} s ahead of the time it was sent")
    if 0 < first_ms < kafka_ms // 100:
        raise InvalidFrame("seconds", f"time stamp {first_ms} looks like seconds; it must be milliseconds since 1970")
    if first_ms < kafka_ms - max_age_ms:
        raise InvalidFrame(
            "stale",
            f"{(kafka_ms - first_ms) / 86_400_000:.1f} days old when it was sent; accepted are "
            f"{max_age_ms / 86_400_000:g} days (--max-age)",
        )


def classify_delay(last_ms: int, kafka_ms: int) -> str:
    """ "" for samples that were sent within a minute; `time-zone` for those that are whole quarter hours old, to half
    a minute; else `behind`.
    """
    age = kafka_ms - last_ms
    if age <= BEHIND_MS:
        return ""
    quarters = round(age / _QUARTER_MS)
    return (
        "time-zone"
        if 0 < quarters <= _MOST_QUARTERS and abs(age - quarters * _QUARTER_MS) <= _QUARTER_MS // 30
        else "behind"
    )
