"""Lines of Prometheus and OpenMetrics text: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sources.exposition import MAX_LINE, InvalidLine, Sample, samples


@pytest.mark.parametrize(
    ("line", "labels", "value"),
    [
        ("m 1", {}, 1),
        ('m{gpu="0"} 1', {"gpu": "0"}, 1),
        ('m {gpu="0",} -2.5e3', {"gpu": "0"}, -2500),
        ('m{gpu="0"} 1 1750000000000', {"gpu": "0"}, 1),
        ('m{gpu="0"} 1 1750000000.123', {"gpu": "0"}, 1),
        ('m{gpu="0"} 1 1.75e9', {"gpu": "0"}, 1),
        ('m{gpu="0"} 7 # {trace_id="abc"} 0.5', {"gpu": "0"}, 7),
        ('m{gpu="0"} 7 # {trace_id="}{"} 0.5 1750000000.123', {"gpu": "0"}, 7),
        ('m{gpu="0"} 7 1750000000.5 # {} 0.5', {"gpu": "0"}, 7),
        ("m 7 # {} 0.5", {}, 7),
        ('m{a="}",b="{# "} 3', {"a": "}", "b": "{# "}, 3),
        ('m{a="x\\"} 4 # {"} 3', {"a": 'x"} 4 # {'}, 3),
    ],
)
def test_a_line_is_read(line: str, labels: dict[str, str], value: float) -> None:
    (found,) = list(samples(line))
    assert isinstance(found, Sample)
    assert (found.name, found.labels, found.value) == ("m", labels, value)


@pytest.mark.parametrize(
    "line",
    [
        "m",
        "m one",
        "m{",
        'm{gpu="0"',
        'm{gpu="0"}',
        "m{gpu=0} 1",
        'm{gpu="0"} 1 yesterday',
        'm{gpu="0"} 1 17 18',
        'm{gpu="0"} 1 # exemplar',
        'm{gpu="0"} 1 # {a="b"}',
        'm{gpu="0"} {gpu="1"} 1',
        "m 1" + " " * MAX_LINE + "2",
    ],
)
def test_rubbish_is_refused_and_the_next_line_is_read(line: str) -> None:
    first, second = list(samples(line + "\nm 2\n"))
    assert isinstance(first, InvalidLine)
    assert str(first).startswith("line 1: ")
    assert isinstance(second, Sample)


def test_unwanted_metrics_are_not_parsed() -> None:
    found = list(samples('other{broken\nm{a="b"} 1\nmm 2\n', frozenset({"m"})))
    assert [f.name for f in found if isinstance(f, Sample)] == ["m"] == [getattr(f, "name", "refused") for f in found]


def test_lines_of_one_set_of_labels_share_it() -> None:
    a, b, c = (f for f in samples('m{x="1"} 1\nn{x="1"} 2\nm{x="2"} 3') if isinstance(f, Sample))
    assert a.labels is b.labels
    assert a.series == b.series != c.series


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    for found in samples(text):
        assert isinstance(found, InvalidLine) or found.name


@given(st.text(max_size=40).filter(lambda t: "\n" not in t and "\r" not in t))
def test_labels_are_unescaped(label: str) -> None:
    escaped = label.replace("\\", "\\\\").replace('"', '\\"')
    (found,) = list(samples(f'm{{a="{escaped}"}} 1'))
    if not isinstance(found, InvalidLine):
        assert found.labels["a"] == label


def test_recorded_expositions_are_read_without_a_refusal(recorded: Any) -> None:
    for path in sorted((recorded / "gpu-metrics").glob("*.metrics")):
        found = list(samples(path.read_text()))
        assert len(found) > 90
        assert not [f for f in found if isinstance(f, InvalidLine)], path.name
