"""A bounded buffer on disk for what Kafka does not take: messages in the order in which they came, the oldest dropped
when it is full.

Segments of some megabytes are files `<number>.spool`; `position` holds how far each was sent. What a crash leaves half
written at the end is cut off at the next opening; what was sent and not yet noted is sent again.
"""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from producers.publish.outgoing import OutgoingMessage

log = logging.getLogger("gigawatch.disk_buffer")

_HEAD = struct.Struct(">III")  # bytes of the label, bytes of the value, CRC of both
_FIRST = 1 << 40  # so that there is room before it
_MOST = 64 << 20


class DiskBuffer:
    """For one process at a time. `limit` and `segment` are bytes; one message may exceed the limit."""

    def __init__(self, folder: Path, limit: int, segment: int = 16 << 20) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.limit, self._segment = folder, limit, min(segment, max(1, limit // 4))
        self._sizes: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        #: By segment: the byte up to which it was sent, and how many messages were.
        self._positions: dict[int, tuple[int, int]] = {}
        self._sending = 0  # the segment that `first` gave out
        self.dropped_rows = 0
        self.dropped_messages = 0
        self._open()

    def _open(self) -> None:
        for path in sorted(self.folder.glob("*.spool")):
            good = count = 0
            for _, end in _messages(path, 0):
                good, count = end, count + 1
            if good < path.stat().st_size:
                log.warning("%s: cut off after %d whole messages: the rest was not written to its end", path, count)
                with path.open("r+b") as file:
                    file.truncate(good)
            self._sizes[int(path.stem)], self._counts[int(path.stem)] = good, count
        try:
            lines = [
                [int(word) for word in line.split()]
                for line in (self.folder / "position").read_text("ascii").splitlines()
            ]
        except (OSError, ValueError):
            return
        for number, at, sent in (line for line in lines if len(line) == 3):
            if number in self._sizes and 0 <= at <= self._sizes[number] and sent >= 0:
                self._positions[number] = at, sent
                self._counts[number] = max(0, self._counts[number] - sent)

    def __len__(self) -> int:
        """Messages in the buffer."""
        return sum(self._counts.values())

    @property
    def bytes(self) -> int:
        return sum(self._sizes.values())

    def status(self) -> dict[str, int]:
        return {
            "bytes": self.bytes if len(self) else 0,
            "limit": self.limit,
            "messages": len(self),
            "dropped_rows": self.dropped_rows,
            "dropped_messages": self.dropped_messages,
        }

    def put(self, message: OutgoingMessage) -> None:
        """Appends a message. Raises OSError when the disk does not take it; nothing of it is kept then."""
        number = max(self._sizes, default=_FIRST)
        if number not in self._sizes or self._sizes[number] >= self._segment:
            number = max(self._sizes, default=_FIRST - 1) + 1
        self._append(number, [message])
        while self.bytes > self.limit and (old := [n for n in sorted(self._sizes)[:-1] if n != self._sending]):
            self._drop(old[0])

    def put_first(self, messages: Sequence[OutgoingMessage]) -> None:
        """Puts messages before all others: what was in flight when a process had to end."""
        if messages:
            self._append(min(self._sizes, default=_FIRST) - 1, messages)

    def first(self, most_bytes: int) -> list[OutgoingMessage]:
        """Returns the oldest messages, in order: about `most_bytes`, at least one; none when the buffer is empty."""
        for number in sorted(self._sizes):
            found, size = [], 0
            for message, _ in _messages(self._path(number), self._positions.get(number, (0, 0))[0]):
                found.append(message)
                size += message.size
                if size >= most_bytes:
                    break
            if found:
                self._sending = number
                return found
            self._forget(number)
        return []

    def sent(self, messages: Sequence[OutgoingMessage]) -> None:
        """Removes what `first` returned, once Kafka has it."""
        number, self._sending = self._sending, 0
        begin, before = self._positions.get(number, (0, 0))
        end = begin + sum(len(_record(m)) for m in messages)
        self._positions[number] = end, before + len(messages)
        self._counts[number] -= len(messages)
        if end >= self._sizes[number]:
            self._forget(number)
        self._note_position()

    def _append(self, number: int, messages: Sequence[OutgoingMessage]) -> None:
        body = b"".join(_record(m) for m in messages)
        path = self._path(number)
        before = self._sizes.get(number, 0)
        try:
            with path.open("ab") as file:
                file.write(body)
        except OSError:
            if path.exists():
                with path.open("r+b") as file:
                    file.truncate(before)
            raise
        self._sizes[number] = before + len(body)
        self._counts[number] = self._counts.get(number, 0) + len(messages)

    def _drop(self, number: int) -> None:
        lost = [p for p, _ in _messages(self._path(number), self._positions.get(number, (0, 0))[0])]
        self.dropped_messages += len(lost)
        self.dropped_rows += sum(p.rows for p in lost)
        log.error(
            "the disk buffer is full (%d MB): dropped its oldest %d messages with %d rows",
            self.limit >> 20,
            len(lost),
            sum(p.rows for p in lost),
        )
        self._forget(number)

    def _forget(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)
        self._sizes.pop(number, None)
        self._counts.pop(number, None)
        self._positions.pop(number, None)

    def _note_position(self) -> None:
        part = self.folder / "position.part"
        try:
            part.write_text("".join(f"{number} {at} {sent}\n" for number, (at, sent) in self._positions.items()))
            part.replace(self.folder / "position")
        except OSError as err:  # a full disk: what is sent goes out again after a restart, no more
            log.warning("cannot note how far %s was sent: %s", self.folder, err)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:016d}.spool"


def _record(message: OutgoingMessage) -> bytes:
    label, value = json.dumps(message.label()).encode(), message.value
    return _HEAD.pack(len(label), len(value), zlib.crc32(value, zlib.crc32(label))) + label + value


def _messages(path: Path, begin: int) -> Iterator[tuple[OutgoingMessage, int]]:
    """Yields (message, where it ends) from byte `begin` up to the first that is not whole."""
    try:
        with path.open("rb") as file:
            file.seek(begin)
            while len(head := file.read(_HEAD.size)) == _HEAD.size:
                labels, size, check = _HEAD.unpack(head)
                if labels > 1 << 20 or size > _MOST:
                    return
                label, value = file.read(labels), file.read(size)
                if len(value) < size or zlib.crc32(value, zlib.crc32(label)) != check:
                    return
                try:
                    found = OutgoingMessage.of(json.loads(label), value)
                except (ValueError, TypeError, KeyError, AttributeError):
                    return
                yield found, file.tell()
    except FileNotFoundError:
        return
