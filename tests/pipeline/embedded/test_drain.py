"""Drained means: every record of the topics a reader must read lies before its position."""

from __future__ import annotations

from aiokafka import TopicPartition

from pipeline.embedded.drain import Reader

A0, A1, B0 = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)


def test_behind_counts_what_nobody_has_dealt_with() -> None:
    begins, ends = {A0: 0, A1: 5, B0: 0}, {A0: 10, A1: 5, B0: 7}
    assert Reader(["a", "b"], []).behind(begins, ends) == 17
    assert Reader(["a"], [{"a/0": 4}, {"a/0": 9}]).behind(begins, ends) == 1
    assert Reader(["a"], [{"a/0": 10}]).behind(begins, ends) == 0, "a partition that was trimmed empty is drained"
    assert Reader(["b"], [{"b/0": None}]).behind(begins, ends) == 7
