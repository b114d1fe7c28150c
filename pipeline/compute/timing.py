"""Times of the compute room, in ms of event time unless named otherwise."""

from __future__ import annotations

from schemas.derived import PANE_S, WINDOWS

PANE_MS = PANE_S * 1000
#: Panes of history that a device's own past is computed from: five minutes.
HISTORY_PANES = 30
#: How often the baseline is computed again.
BASELINE_MS = 30_000
#: How far back in event time a new worker must read to publish what an undisturbed one publishes: the longest window,
#: a baseline of a full history as of the last half minute, and the lateness.
HORIZON_MS = 1000 * (max(w for w, _ in WINDOWS) + PANE_S) + BASELINE_MS
#: Ticks that wait for the rest of their messages at most.
MOST_PENDING = 4
#: Later than any time stamp and any tick.
END_OF_TIME = 1 << 62
