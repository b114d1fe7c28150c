"""Facts about the store that others need too: its database, how long each tier is kept, and where streams land."""

from __future__ import annotations

from schemas.derived import DERIVED

DATABASE = "gigawatch"
#: Version 1 had `job` in the identity, version 2 has `board`; `gigawatch migrate` brings an older store along.
STORE_VERSION = 2

#: Days that each tier is kept; 0 is for good.
TTL_DAYS = {"kept": 0, "raw": 7, "10s": 30, "1m": 365, "1h": 3650, "derived": 90}

#: Derived stream -> table, of those that are stored.
STORED = {stream.name: stream.table for stream in DERIVED.values() if stream.table}
