"""A partition and the joiner in their log: what they skip, what they emit, what a new reader needs."""

from __future__ import annotations

import pytest

from pipeline.stream.joiner import Joiner
from pipeline.stream.offsets import Offsets
from pipeline.stream.partition import Partition
from schemas import derived
from schemas.log_record import LogRecord
from tests.pipeline.stream.logs import START, messages


def test_messages_read_again_after_a_rebalance_change_nothing() -> None:
    log = messages(60)
    once, again = Partition("gpu"), Partition("gpu")
    first = [c for m in log for c in once.add([m])]
    second = again.add(log[:40]) + again.add(log[10:60])
    assert [(c.end_ms, sorted(c.batches)) for c in first] == [(c.end_ms, sorted(c.batches)) for c in second]
    assert again.counts["seen-before"] == 30


def test_what_is_committed_is_what_a_new_worker_needs() -> None:
    log = messages(900)
    running = Partition("gpu")
    running.add(log)
    offset = running.needed_from()
    assert offset is not None
    assert 0 < offset < 600
    fresh = Partition("gpu")
    caught_up = fresh.add(log[offset:])
    later = [c.end_ms for c in caught_up]
    assert later
    assert later[0] <= running.engine.closed_ms + 10_000, "no pane is missing between the two workers"


def test_a_partition_taken_over_in_the_middle_is_silent_until_it_is_sure() -> None:
    assert Partition("gpu").add(messages(200)[50:]) == []


def test_a_partition_with_a_gap_starts_over_and_emits_nothing_until_it_is_sure() -> None:
    log = messages(60)
    held = Partition("gpu")
    before = [c for m in log[:30] for c in held.add([m])]
    assert before
    after = held.add(log[40:])
    assert held.counts["gaps"] == 1
    assert after == [], "windows that lack their beginning are not given out"
    assert held.offsets.position == log[-1].offset + 1


def parts(count: int, first_offset: int) -> list[LogRecord]:
    """A rack's 10 s parts, one a message."""
    row = {n: 0 for n, _ in derived.PART.columns} | {
        "kind": "gpu",
        "site": "s",
        "rack": "R",
        "model": "m",
        "window_s": 10,
        "util_counts": [],
        "devices": 1,
    }
    return [
        LogRecord(
            "",
            0,
            first_offset + k,
            START,
            derived.PART.encode(derived.PART.build_rows([row | {"ts": START + 10_000 * k}])),
        )
        for k in range(count)
    ]


def test_a_joiner_leaves_windows_alone_whose_parts_it_may_have_missed() -> None:
    log = parts(8, first_offset=7)
    late = Joiner().add(log)
    early = Joiner().add([LogRecord("", 0, m.offset - 7, m.kafka_ms, m.value) for m in log])
    assert len(early["rack"]) == 8
    assert len(late["rack"]) == 5


@pytest.mark.parametrize(("start", "first"), [(50, b"junk"), (50, None), (0, b"junk")])
def test_a_partition_warms_up_by_where_it_starts_whatever_its_first_message_is(start: int, first: bytes | None) -> None:
    """A dead letter at the first offset makes no cold partition warm, and none at the very beginning cold."""
    log = messages(200)[start:]
    if first is not None:
        log[0] = log[0]._replace(value=first)
    assert bool(Partition("gpu").add(log)) == (start == 0)


def test_a_joiner_that_starts_at_a_dead_letter_leaves_out_what_it_may_have_missed() -> None:
    log = parts(8, first_offset=7)
    log[0] = log[0]._replace(value=b"junk")
    assert len(Joiner().add(log)["rack"]) == 4, "windows within half a minute of the first part"


def test_marks_lead_from_event_time_to_the_offset_a_new_reader_needs() -> None:
    offsets = Offsets()
    assert offsets.needed_from(0) is None
    offsets.start_at(100)
    assert offsets.needed_from(0) == 100, "nothing is processed yet"
    for n in range(40):
        offsets.advance(100 + n)
        offsets.mark(START + 500 * n, 100 + n)
    assert offsets.position == 140
    assert offsets.newest_ms == START + 19_000
    assert offsets.needed_from(START - 1) == 100
    assert offsets.needed_from(START + 5_700) == 110, "one mark a second"
    assert offsets.needed_from(START) == 110, "earlier marks are forgotten"
    offsets.reset()
    assert (offsets.position, offsets.needed_from(START)) == (0, 0)


def test_a_reader_starts_cold_once_unless_it_starts_at_the_beginning() -> None:
    offsets = Offsets()
    offsets.advance(0)
    assert not offsets.starts_cold()
    offsets.gap()
    offsets.advance(9)
    assert [offsets.starts_cold(), offsets.starts_cold()] == [True, False]
