"""The benchmark's own logic: targets, medians, comparison, the README's table, the simulation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.bench import markdown_table, peers, scale, targets
from pipeline.bench.peers import remote_write
from pipeline.bench.peers.rolling import Rolling
from pipeline.cli import gigawatch
from pipeline.commands.bench import PARTS


def test_a_target_is_met_at_least_or_at_most() -> None:
    results: dict[str, dict[str, float]] = {
        "end-to-end": {"real_time_factor": 1.02, "freshness_p99_s": 7.0, "wrong": 0, "size": 0.5},
        "sink": {"rows_per_core_s": 900_000},
    }
    verdicts = {what: verdict for _, what, _, _, _, verdict in targets.table(results)}
    assert verdicts["end to end, a rack a message"] == "met"
    assert verdicts["freshness p99"] == "NOT met"
    assert verdicts["rows from Kafka to durable, a core"] == "NOT met"
    assert "GPUs a worker core" not in verdicts, "a part that did not run is not judged"


def test_runs_are_judged_by_their_median_and_their_worst_count_of_wrong_rows() -> None:
    runs = [{"part": "x", "v": v, "wrong": w} for v, w in ((1.0, 0), (9.0, 2), (2.0, 0))]
    found = targets.median(runs)
    assert (found["v"], found["wrong"], found["runs"]) == (2.0, 2, 3)


def test_runs_are_compared_and_a_bad_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text(json.dumps({"part": "sink", "rows_per_core_s": 500_000, "wrong": 0}))
    rows = list(targets.compare({"sink": {"rows_per_core_s": 750_000}}, targets.load(file)))
    assert [(r[0], r[4]) for r in rows] == [("sink", "+50 %")]
    for text in ("no json", "[1]", "{}"):
        file.write_text(text)
        with pytest.raises(targets.BenchError, match="no result of"):
            targets.load(file)


PEERS = {
    "streams": {
        "rows": [
            {"what": "samples", "unit": "/s", "peer": "other", "ours": 300.0, "theirs": 100.0, "more_is_better": True}
        ]
    },
    "stores": {
        "rows": [
            {"what": "question", "unit": "ms", "peer": "store", "ours": 10.0, "theirs": 5.0, "more_is_better": False}
        ]
    },
    "absent": ["gone"],
}


def test_the_table_shows_where_a_peer_wins(tmp_path: Path) -> None:
    assert [row[-1] for row in peers.rows(PEERS)] == ["3 x", "0.5 x: the peer wins"]
    page = tmp_path / "README.md"
    begin, end = markdown_table.marks("peers")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    markdown_table.write(page, "peers", peers.page(PEERS))
    text = page.read_text()
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "| question | store | 0.5 x: the peer wins |" in text
    assert "| not measured here | gone | |" in text
    assert "old" not in text
    page.write_text("no marks")
    with pytest.raises(targets.BenchError, match="no place"):
        markdown_table.write(page, "peers", peers.page(PEERS))


def test_the_peers_rolling_minute_is_right() -> None:
    rolling, rng = Rolling(), np.random.default_rng(1)
    at = np.arange(0, 200_000, 1000)
    values = rng.random(len(at)) * 100
    closed = [c for t, v in zip(at.tolist(), values.tolist(), strict=True) for c in rolling.add("g", t, v)]
    assert [end for end, _, _ in closed] == list(range(10_000, 200_000, 10_000))
    for end, mean, high in closed:
        inside = values[(at >= end - 60_000) & (at < end)]
        assert mean == pytest.approx(inside.mean())
        assert high == inside.max()


def test_remote_write_follows_the_specification() -> None:
    import cramjam

    body = bytes(
        cramjam.snappy.decompress_raw(remote_write.request([remote_write.labels("power_w", "g1")], [1.5], 300))
    )
    series = (
        b"\x0a\x17\x0a\x08__name__\x12\x0bgpu_power_w"
        b"\x0a\x0c\x0a\x06device\x12\x02g1"
        b"\x12\x0c\x09" + np.float64(1.5).tobytes() + b"\x10\xac\x02"
    )
    assert body == b"\x0a" + bytes([len(series)]) + series


def test_keys_spread_and_more_partitions_are_more_uneven() -> None:
    few, many = scale.skew(1, 32, 8), scale.skew(1, 512, 8)
    assert 1.0 < few.partition < many.partition < 3
    assert scale.spread(1000, 7).sum() == 1000
    assert scale.skew(5, 1024, 16).worker < 1.1


def test_a_fuller_cluster_recovers_more_slowly_or_never() -> None:
    times = [scale.recovery(8, load).caught_up_s for load in (0.3, 0.5, 0.7, 0.85)]
    assert times == sorted(times)
    assert times[0] > 9
    assert scale.recovery(8, 0.9).caught_up_s == float("inf"), "seven cannot carry what was nine tenths of eight"


def test_help_lists_each_part_on_a_line_of_its_own() -> None:
    lines = CliRunner().invoke(gigawatch, ["bench", "--help"]).output.splitlines()
    assert [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in PARTS] == list(PARTS)


def test_a_file_that_cannot_be_used_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    for option in ("--compare", "--page", "--readme"):
        done = CliRunner().invoke(gigawatch, ["bench", "scale", option, str(page)])
        assert done.exit_code == 1
        assert f"gigawatch: {page} " in done.output
        assert len(done.output.splitlines()) == 1
