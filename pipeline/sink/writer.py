"""Writes one batch to ClickHouse: retries transient errors, isolates poison messages, stops at errors that an operator
must fix.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from pipeline.sink.array_rows import identities_table
from pipeline.sink.batcher import Flush
from pipeline.sink.device_sets import DeviceSets
from pipeline.sink.insert import Refusal, Sender, build_body, classify, token
from pipeline.sink.stored_message import StoredMessage
from pipeline.store.table import Table
from pipeline.store.tables import IDENTITIES, TABLES
from schemas.errors import GigawatchError, first_line
from schemas.validation import Counts

log = logging.getLogger("gigawatch.sink")


class StoppedByConfig(GigawatchError, RuntimeError):
    """ClickHouse refused in a way that retrying cannot fix; the message names it."""


class Aborted(GigawatchError, RuntimeError):
    """Stopped while ClickHouse took no inserts: none of this flush's offsets may be committed."""


class Writer:
    """Blocking; runs in a thread."""

    def __init__(
        self, client: Client, log_id: str, stopping: Callable[[], bool] = lambda: False, wait_s: float = 0.2
    ) -> None:
        self._sender, self._log_id, self._stopping, self._wait_s = Sender(client), log_id, stopping, wait_s
        self._device_sets: dict[str, DeviceSets] = {}
        self.rows: Counter[str] = Counter()
        self.missing: Counts = Counter()
        self.retries = 0
        self.trouble = ""

    def write(self, flush: Flush) -> list[tuple[str, StoredMessage, str]]:
        """Stores every message of the flush; returns (table, message, reason) of those that ClickHouse refuses for
        good.

        Raises StoppedByConfig, Aborted.
        """
        poison: list[tuple[str, StoredMessage, str]] = []
        for (name, day), messages in flush.messages.items():
            self._store(TABLES[name], day, messages, poison)
        return poison

    def _store(
        self, table: Table, day: str, messages: Sequence[StoredMessage], poison: list[tuple[str, StoredMessage, str]]
    ) -> None:
        try:
            device_sets = self._device_sets.setdefault(table.name, DeviceSets(table.by_rack))
            body = build_body(table, messages, self._log_id, device_sets, self.missing)
            self._store_device_sets(device_sets)
            self._insert(table, body, token(table, messages, self._log_id, day))
        except (StoppedByConfig, Aborted):
            raise
        except Exception as err:  # classified: only poison comes here, the rest was retried or raised above
            if classify(err) is not Refusal.POISON:
                raise
            if len(messages) > 1:
                half = len(messages) // 2
                self._store(table, day, messages[:half], poison)
                self._store(table, day, messages[half:], poison)
            else:
                log.warning(
                    "%s: dead-lettered partition %d offset %d: %s",
                    table.name,
                    messages[0].partition,
                    messages[0].offset,
                    err,
                )
                poison.append((table.name, messages[0], first_line(err)))
            return
        self.rows[table.name] += sum(p.rows for p in messages)

    def _store_device_sets(self, device_sets: DeviceSets) -> None:
        """Stores new device sets before the frames that refer to them."""
        rows = device_sets.new
        if rows:
            name = hashlib.blake2b(b"".join(who.to_bytes(8, "little") for who in rows), digest_size=12).hexdigest()
            self._insert(IDENTITIES, identities_table(rows), f"{IDENTITIES.name}/{name}")
            device_sets.mark_stored(rows)

    def _insert(self, table: Table, body: pa.Table, name: str) -> None:
        pause = self._wait_s
        while True:
            try:
                self._sender.send(table, body, name)
                self.trouble = ""
                return
            except Exception as err:
                verdict = classify(err)
                if verdict is Refusal.CONFIG:
                    raise StoppedByConfig(f"ClickHouse refused rows for {table.name}: {first_line(err)}") from err
                if verdict is Refusal.POISON:
                    raise
                self.retries += 1
                self.trouble = f"{table.name}: {first_line(err, 200)}"
                log.warning("insert into %s failed, trying again in %.1f s: %s", table.name, pause, self.trouble)
            deadline = time.monotonic() + pause * random.uniform(0.7, 1.3)  # noqa: S311 - jitter
            while time.monotonic() < deadline:
                if self._stopping():
                    raise Aborted(self.trouble)
                time.sleep(0.05)
            pause = min(pause * 2, 10.0)
