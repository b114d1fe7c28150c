"""A worker's state in a file, for the next worker on this machine."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

log = logging.getLogger("gigawatch.stream")

#: Of what is saved: another version's file costs a replay, nothing more.
SNAPSHOT_VERSION = 6


def save(path: Path, body: dict[str, Any]) -> None:
    """Writes the state, whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        pickle.dump({"version": SNAPSHOT_VERSION, **body}, file, protocol=5)
    part.replace(path)


def load(path: Path) -> dict[str, Any] | None:
    """Returns the state of a file that this program wrote on this machine; None when there is none that fits."""
    try:
        body: dict[str, Any] = pickle.loads(path.read_bytes())  # noqa: S301 - a file that this program wrote here
        return body if body["version"] == SNAPSHOT_VERSION else None
    except FileNotFoundError:
        return None
    except Exception as err:  # noqa: BLE001 - a damaged snapshot costs a replay, nothing more
        log.warning("snapshot %s cannot be read (%s): rebuilding from the log", path, err)
        return None
