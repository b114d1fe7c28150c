"""Messages as ClickHouse stores and shows them, on the real engine: rows come out of the views as they went into the
log.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client

from pipeline.sink.array_rows import frame_table, identities_table
from pipeline.sink.device_sets import DeviceSets
from pipeline.sink.stored_message import StoredMessage
from pipeline.store import rollup
from pipeline.store.client import StoreError, open_folder
from pipeline.store.migrate import migrate
from pipeline.store.tables import IDENTITIES, TABLES
from schemas.codec import Decoder, encode
from schemas.derived import ROLLUPS
from schemas.frame import Frame, build

#: A whole minute of today: what is older than its table keeps would be dropped.
START = int(time.time()) // 60 * 60_000


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "clickhouse").mkdir()
    made = open_folder(tmp_path)
    migrate(made)
    yield made
    made.close()


def store(
    client: Client, name: str, contents: list[Frame | pa.RecordBatch], identities: DeviceSets | None = None
) -> DeviceSets:
    table = TABLES[name]
    known = identities or DeviceSets(table.by_rack)
    body = frame_table(table, [StoredMessage(c, 3, 17 + n, START) for n, c in enumerate(contents)], "log-1", known)
    new = identities_table(known.new)
    known.mark_stored(dict(known.new))
    client.insert_arrow(f"gigawatch.{IDENTITIES.name}", new)
    client.insert_arrow(f"gigawatch.{table.stored_as}", body)
    return known


def rack(name: str, devices: list[str], ts: Any = START, **values: list[float]) -> Frame:
    size = len(devices)
    return build(
        "gpu",
        ts,
        {
            "site": ["s"] * size,
            "rack": [name] * size,
            "node": ["n"] * size,
            "device": devices,
            "model": ["H100"] * size,
            "board": [f"GPU-{d}" for d in devices],
        },
        values,
    )


def over_the_wire(frame: Frame, decoder: Decoder) -> Frame:
    return decoder.decode(encode(frame))


def test_rows_come_out_as_they_went_in_missing_as_null(client: Client) -> None:
    decoder = Decoder()
    frames = [
        over_the_wire(rack("R1", ["b", "a"], START + t, temp_c=[59.0 + t / 1000, np.nan], util_pct=[5.0, 6.0]), decoder)
        for t in (0, 1000)
    ]
    frames += [rack("R2", ["x"], power_w=[7.0])]
    store(client, "gpu", frames)
    found = client.query(
        "SELECT toUnixTimestamp64Milli(ts), rack, device, temp_c, util_pct, power_w, kafka_offset FROM "
        "gigawatch.gpu ORDER BY ts, rack, device"
    ).result_rows
    assert [tuple(row) for row in found] == [
        (START, "R1", "a", None, 6.0, None, 17),
        (START, "R1", "b", 59.0, 5.0, None, 17),
        (START, "R2", "x", None, None, 7.0, 19),
        (START + 1000, "R1", "a", None, 6.0, None, 18),
        (START + 1000, "R1", "b", 60.0, 5.0, None, 18),
    ]
    assert client.query("SELECT count() FROM gigawatch.gpu_frames").result_rows[0][0] == 3
    assert client.query("SELECT site, node, model, board FROM gigawatch.gpu WHERE device = 'x'").result_rows[0] == (
        "s",
        "n",
        "H100",
        "GPU-x",
    )


def test_the_same_devices_have_the_same_number_in_whichever_order_they_come() -> None:
    identities = DeviceSets(by_rack=True)
    one, other = identities.of_frame(rack("R1", ["a", "b", "c"])), identities.of_frame(rack("R1", ["c", "a", "b"]))
    assert one.groups == other.groups
    assert one.order is None
    assert other.order is not None
    assert other.order.tolist() == [1, 2, 0]
    assert identities.of_frame(rack("R1", ["a", "b"])).groups != one.groups
    assert identities.of_frame(rack("R2", ["a", "b", "c"])).groups != one.groups
    assert len(identities.new) == 3


def test_two_boards_under_one_name_keep_their_own_values(client: Client) -> None:
    known = DeviceSets(by_rack=True)
    for n, boards in enumerate((["GPU-x", "GPU-y"], ["GPU-y", "GPU-x"])):
        identity = {"site": ["s"] * 2, "rack": ["R1"] * 2, "node": ["n"] * 2, "device": ["a"] * 2, "board": boards}
        power = [1.0 if board == "GPU-x" else 2.0 for board in boards]
        store(client, "gpu", [build("gpu", START + 1000 * n, identity, {"power_w": power})], known)
    found = client.query("SELECT board, power_w, count() FROM gigawatch.gpu GROUP BY 1, 2 ORDER BY 1").result_rows
    assert found == [("GPU-x", 1.0, 2), ("GPU-y", 2.0, 2)]
    assert client.query("SELECT count() FROM gigawatch.identities FINAL").result_rows == [(1,)]


def test_a_set_of_devices_has_the_same_number_for_ever() -> None:
    """Frames of years refer to it; without boards and jobs it is that of version 1 too."""
    known = DeviceSets(by_rack=True)
    who = {"site": ["s"] * 2, "rack": ["R1"] * 2, "node": ["n"] * 2, "device": ["a", "b"], "model": ["H100"] * 2}
    assert known.of_frame(build("gpu", START, who, {})).groups[0].who == 18_044_979_932_576_092_086
    boards = {"board": ["GPU-x", "GPU-y"]}
    assert known.of_frame(build("gpu", START, who | boards, {})).groups[0].who == 8_817_791_655_392_594_290


def test_what_is_stored_twice_in_another_order_is_shown_once(client: Client) -> None:
    """A worker that takes over publishes the same pane again, its devices perhaps in another order."""

    def pane(devices: list[str], power: list[float]) -> pa.RecordBatch:
        size = len(devices)
        return ROLLUPS["gpu"].build(
            {
                "ts": np.full(size, START + 10_000),
                **{
                    n: [v] * size
                    for n, v in (("site", "s"), ("rack", "R1"), ("node", ""), ("model", ""), ("board", ""))
                },
                "device": devices,
                "samples": [10] * size,
                "power_w_mean": power,
                "power_w_max": power,
            }
        )

    known = store(client, "gpu_10s", [pane(["a", "b"], [1.0, 2.0])])
    store(client, "gpu_10s", [pane(["b", "a"], [2.0, 1.0])], known)
    assert client.query(
        "SELECT device, power_w_mean, util_pct_mean FROM gigawatch.gpu_10s ORDER BY device"
    ).result_rows == [("a", 1.0, None), ("b", 2.0, None)]


def test_kinds_with_few_devices_a_rack_are_stored_by_message(client: Client) -> None:
    who = {
        "site": ["s"] * 3,
        "rack": ["R1", "R2", "R2"],
        "device": ["loop-1", "loop-2", "cdu"],
        "model": ["rack-loop", "rack-loop", "cdu"],
    }
    store(
        client,
        "cooling",
        [
            build(
                "cooling",
                START,
                who,
                {"flow_lpm": [50.0, 40.0, np.nan], "supply_temp_c": [32.0] * 3, "return_temp_c": [42.0] * 3},
            )
        ],
    )
    assert client.query("SELECT count(), sum(rows) FROM gigawatch.cooling_frames").result_rows == [(1, 3)]
    assert client.query("SELECT rack, device, round(heat_w) FROM gigawatch.cooling ORDER BY device").result_rows == [
        ("R2", "cdu", None),
        ("R1", "loop-1", 32500.0),
        ("R2", "loop-2", 26000.0),
    ]


def test_a_message_of_several_moments_is_stored_moment_by_moment(client: Client) -> None:
    mixed = rack("R1", ["a", "a", "b"], np.array([START, START + 500, START]), power_w=[1.0, 2.0, 3.0])
    store(client, "gpu", [mixed])
    found = client.query(
        "SELECT toUnixTimestamp64Milli(ts) - {t:Int64}, device, power_w FROM gigawatch.gpu ORDER BY ts, device",
        parameters={"t": START},
    ).result_rows
    assert found == [(0, "a", 1.0), (0, "b", 3.0), (500, "a", 2.0)]


def test_a_minute_is_made_of_its_panes_weighted_and_without_what_is_missing(client: Client) -> None:
    rng = np.random.default_rng(1)
    power, inc = rng.uniform(100, 900, (6, 2)).astype(np.float32), rng.uniform(0, 9, (6, 2))
    power[2, 0], power[:, 1], inc[4, 0] = np.nan, np.nan, np.nan
    samples = rng.integers(1, 11, (6, 2))
    who = {
        "site": ["s"] * 2,
        "rack": ["R1"] * 2,
        "node": [""] * 2,
        "device": ["a", "b"],
        "model": [""] * 2,
        "board": [""] * 2,
    }
    panes = [
        ROLLUPS["gpu"].build(
            {
                "ts": np.full(2, START + 10_000 * (k + 1)),
                **who,
                "samples": samples[k],
                "power_w_mean": power[k],
                "power_w_max": power[k],
                "energy_j_inc": inc[k],
            }
        )
        for k in range(6)
    ]
    store(client, "gpu_10s", panes)
    assert rollup.Roller(client).roll(everything=True) > 0
    for tier in ("1m", "1h"):
        a, b = client.query(
            f"SELECT samples, power_w_mean, power_w_max, energy_j_inc, util_pct_mean FROM gigawatch.gpu_{tier} "
            "ORDER BY device"
        ).result_rows
        there = ~np.isnan(power[:, 0])
        assert a[0] == samples[:, 0].sum()
        assert a[1] == pytest.approx(np.average(power[there, 0], weights=samples[there, 0]), rel=1e-6)
        assert a[2] == np.nanmax(power[:, 0])
        assert a[3] == pytest.approx(np.nansum(inc[:, 0]))
        assert (b[1], b[2], a[4], b[4]) == (None, None, None, None)
        assert b[3] == pytest.approx(inc[:, 1].sum())


def test_a_store_of_the_old_layout_is_not_touched(client: Client) -> None:
    client.command("DROP VIEW gigawatch.gpu")
    client.command("DROP TABLE gigawatch.gpu_frames")
    client.command("CREATE TABLE gigawatch.gpu (ts DateTime64(3), device String) ENGINE = MergeTree ORDER BY ts")
    with pytest.raises(StoreError, match=r"RENAME TABLE gigawatch\.gpu TO"):
        migrate(client)
    assert client.query("SELECT count() FROM gigawatch.gpu").result_rows == [(0,)]


def test_a_metric_that_is_new_shows_in_the_view(client: Client) -> None:
    client.command("ALTER TABLE gigawatch.gpu_frames DROP COLUMN xid, DROP COLUMN xid_n")
    assert migrate(client) == ["added gpu.xid", "added gpu.xid_n", "view gpu", "view gpu_raw"]
    store(client, "gpu", [rack("R1", ["a"], xid=[79.0])])
    assert client.query("SELECT xid, ts FROM gigawatch.gpu").result_rows == [
        (79.0, dt.datetime.fromtimestamp(START / 1000, dt.UTC).replace(tzinfo=None))
    ]
    assert migrate(client) == []


def test_what_is_no_multiple_is_kept_as_it_came(client: Client) -> None:
    values = {
        "temp_c": [59.0, np.nan, 61.0],
        "power_w": [320.6, 320.65, np.nan],
        "energy_j": [1e9 + 0.123, 2.0, np.nan],
    }
    store(client, "gpu", [rack("R1", ["a", "b", "c"], **values)])
    stored = client.query(
        "SELECT temp_c, temp_c_n, length(power_w), power_w_n, length(energy_j_n) FROM gigawatch.gpu_frames"
    ).result_rows[0]
    assert stored == ([], [59, -(2**31), 61], 3, [], 3)
    found = client.query("SELECT temp_c, power_w, energy_j FROM gigawatch.gpu ORDER BY device").result_rows
    assert [r[0] for r in found] == [59.0, None, 61.0]
    assert [r[1] for r in found] == [pytest.approx(320.6), pytest.approx(320.65), None]
    assert [r[2] for r in found] == [1e9 + 0.123, 2.0, None]


def test_a_resolution_is_part_of_what_is_stored(client: Client) -> None:
    client.command("ALTER TABLE gigawatch.gpu_frames COMMENT COLUMN power_w_n 'multiples of 0.5'")
    wanted = r"power_w_n is .* 'multiples of 0.5', this version wants .* 'multiples of 0.1'"
    with pytest.raises(StoreError, match=wanted):
        migrate(client)


def test_small_parts_are_merged_a_hundred_at_a_time(client: Client) -> None:
    """An insert a second makes a part a second: without merges a server refuses inserts after an hour."""
    identities: DeviceSets | None = None
    for n in range(260):
        identities = store(
            client,
            "power",
            [build("power", START + 1000 * n, {"site": ["s"], "rack": ["R"], "device": ["m"]}, {"power_w": [1.0]})],
            identities,
        )
    question = "SELECT count(), max(level), sum(rows) FROM system.parts WHERE active AND table = 'power_frames'"
    deadline = time.monotonic() + 30
    while (found := client.query(question).result_rows[0])[0] > 150:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    assert found[1] < 20, "few merges, each of many parts: by two or ten at a time it would be fifty"
    assert client.query("SELECT count() FROM gigawatch.power").result_rows[0][0] == 260
