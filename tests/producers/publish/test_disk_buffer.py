"""The buffer on disk: in order, bounded, through crashes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.publish.disk_buffer import DiskBuffer
from tests.producers.publish.fakes import message, number

MB = 1 << 20


def drained(buffer: DiskBuffer, at_once: int = 250) -> list[int]:
    out = []
    while found := buffer.first(at_once):
        out += [number(p) for p in found]
        buffer.sent(found)
    return out


def test_what_goes_in_comes_out_in_order_and_whole(tmp_path: Path) -> None:
    buffer = DiskBuffer(tmp_path, MB, segment=1000)
    for n in range(50):
        buffer.put(message(n))
    assert len(buffer) == 50
    assert buffer.first(1)[0] == message(0)
    assert drained(buffer) == list(range(50))
    assert len(buffer) == 0
    assert not list(tmp_path.glob("*.spool"))


def test_another_process_goes_on_where_the_first_was(tmp_path: Path) -> None:
    first = DiskBuffer(tmp_path, MB, segment=1000)
    for n in range(50):
        first.put(message(n))
    taken = 0
    for _ in range(7):
        found = first.first(250)
        first.sent(found)
        taken += len(found)
    left = len(first)
    second = DiskBuffer(tmp_path, MB, segment=1000)
    assert len(second) == left == 50 - taken
    second.put(message(50))
    second.put_first([message(100), message(101)])
    third = DiskBuffer(tmp_path, MB, segment=1000)
    assert drained(third) == [100, 101, *range(50 - left, 51)]


def test_past_the_bound_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    buffer = DiskBuffer(tmp_path, 10_000, segment=1000)
    for n in range(200):
        buffer.put(message(n))
    assert buffer.bytes <= 10_000 + 1000
    kept = drained(buffer)
    assert kept == list(range(200 - len(kept), 200))
    assert buffer.dropped_messages == 200 - len(kept) > 0
    assert buffer.dropped_rows == 72 * buffer.dropped_messages


def test_what_is_being_sent_is_not_dropped(tmp_path: Path) -> None:
    buffer = DiskBuffer(tmp_path, 10_000, segment=1000)
    for n in range(20):
        buffer.put(message(n))
    sending = buffer.first(250)
    for n in range(20, 200):
        buffer.put(message(n))
    buffer.sent(sending)
    assert [number(p) for p in sending] == [0, 1, 2]
    assert len(drained(buffer)) + 3 + buffer.dropped_messages == 200


@pytest.mark.parametrize("cut", [1, 50, 190])
def test_a_message_that_was_not_written_whole_is_cut_off(tmp_path: Path, cut: int) -> None:
    buffer = DiskBuffer(tmp_path, MB)
    for n in range(5):
        buffer.put(message(n))
    path = next(tmp_path.glob("*.spool"))
    path.write_bytes(path.read_bytes()[:-cut])
    again = DiskBuffer(tmp_path, MB)
    assert len(again) == 4
    again.put(message(9))
    assert drained(again) == [0, 1, 2, 3, 9]


def test_a_byte_that_turned_on_disk_ends_the_segment_there(tmp_path: Path) -> None:
    buffer = DiskBuffer(tmp_path, MB)
    for n in range(5):
        buffer.put(message(n))
    path = next(tmp_path.glob("*.spool"))
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(bytes(body))
    assert drained(DiskBuffer(tmp_path, MB)) == [0, 1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.integers(8, 400), st.just("send"), st.just("reopen")), max_size=60))
def test_any_order_of_puts_sends_and_restarts(tmp_path_factory: pytest.TempPathFactory, steps: list[int | str]) -> None:
    folder = tmp_path_factory.mktemp("buffer")
    buffer, put, got = DiskBuffer(folder, MB, segment=700), 0, list[int]()
    for step in steps:
        if step == "send":
            found = buffer.first(300)
            got += [number(p) for p in found]
            if found:
                buffer.sent(found)
        elif step == "reopen":
            buffer = DiskBuffer(folder, MB, segment=700)
        else:
            buffer.put(message(put, int(step)))
            put += 1
        assert len(buffer) == put - len(got)
    assert got + drained(buffer) == list(range(put))
