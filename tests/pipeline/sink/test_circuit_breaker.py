"""The circuit breaker for dead letters: when reading stops, the reason it reports, and when reading resumes."""

from __future__ import annotations

from collections import Counter

from pipeline.sink.circuit_breaker import CircuitBreaker


def test_many_refused_of_many_stop_the_reading_for_a_while() -> None:
    storm, refused = CircuitBreaker(most=100), Counter[str]()
    for second in range(9):
        refused["schema"] += 10
        storm.add(float(second), 20, refused)
        assert not storm.is_open(float(second))
    refused["kind"] += 10
    storm.add(9.0, 20, refused)
    assert storm.is_open(9.0)
    assert "100 of the last 200 messages were refused, most of them as `schema`" in storm.trouble
    assert storm.is_open(68.9)
    assert not storm.is_open(69.1)
    assert not storm.trouble


def test_a_few_among_very_many_or_spread_over_time_are_no_storm() -> None:
    storm, refused = CircuitBreaker(most=100), Counter[str]()
    for second in range(30):
        refused["schema"] += 20
        storm.add(float(second), 1000, refused)  # 600 in all, but one in fifty
    assert not storm.is_open(30.0)
    storm, refused = CircuitBreaker(most=100), Counter[str]()
    for minute in range(30):
        refused["schema"] += 20
        storm.add(61.0 * minute, 20, refused)
    assert not storm.is_open(61.0 * 30)


def test_it_can_be_told_never_to_stop() -> None:
    storm = CircuitBreaker(most=0)
    storm.add(0.0, 10_000, Counter({"schema": 10_000}))
    assert not storm.is_open(0.0)
