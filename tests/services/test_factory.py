"""One factory with three faults, asked in every way while it runs and after it has stopped; with the embedded broker.

It begins ten minutes ago and runs three times as fast as the clock, so that windows do not have to be waited for.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread

from dashboards import build, model
from pipeline import api
from pipeline.instance import running
from pipeline.store.access import opened
from schemas.catalogue import KINDS
from tests.factories import Running, factories, run, whole

pytestmark = [pytest.mark.service(90), pytest.mark.xdist_group("factory")]
HOT, LEAKING, DEAD = "R0002-N03-GPU2", "R0001", "R0003-N01-GPU0"
FAULTS = (f"gpu-thermal@{HOT}:5", f"leak@{LEAKING}:5", f"gpu-dead@{DEAD}:30")
RACKS = {"R0001", "R0002", "R0003", "R0004"}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Four racks, in which all three faults are known as incidents."""
    with factories(tmp_path_factory.mktemp("plant")) as start:
        faults = [word for fault in FAULTS for word in ("--fault", fault)]
        up = start("--racks", "4", "--back", "600", "--speed", "3", *faults)
        up.until(lambda: up.stored("site_windows") > 12 and up.stored("incidents") >= 3, 120, "windows and incidents")
        up.until(lambda: {r["device"] for r in up.ask("worst")} >= {HOT, LEAKING, DEAD}, 60, "all three faults")
        yield up


def _folder(plant: Running) -> tuple[str, str]:
    return "--data-dir", str(plant.folder)


def test_doctor_finds_every_part_well(plant: Running) -> None:
    lines = run("doctor", *_folder(plant)).stdout.splitlines()
    found = {line[6:22].strip(): line[:5].strip() for line in lines}
    wanted = ("Python", "packages", "disk", "factory", "producer", "sink", "stream-0", "Kafka", "ClickHouse")
    assert {name: found.get(name) for name in wanted} == dict.fromkeys(wanted, "ok")
    assert set(found.values()) == {"ok", "note"}


def test_top_shows_every_rack_and_what_is_wrong(plant: Running) -> None:
    plant.until(
        lambda: "287/288 GPUs" in run("top", "--once", *_folder(plant)).stdout, 120, "a window without the dead GPU"
    )
    shown = run("top", "--once", *_folder(plant)).stdout
    racks, worst, incidents = (
        shown[shown.index(title) :] for title in ("racks (worst first)", "worst devices", "open incidents")
    )
    assert all(rack in racks[: racks.index("worst devices")] for rack in RACKS)
    for part in (worst[: worst.index("open incidents")], incidents):
        assert {name for name in (HOT, LEAKING, DEAD) if name in part} == {HOT, LEAKING, DEAD}


def test_the_hot_gpu_leads_the_hottest(plant: Running) -> None:
    def leads() -> bool:
        """It warms up for a minute; its incident is open before."""
        first, second, *_ = plant.ask("hottest")
        return bool(first["device"] == HOT and first["temp_c"] > second["temp_c"] + 8)

    plant.until(leads, 60, "a GPU well above all others")


def test_the_dead_gpu_is_silent_and_no_other(plant: Running) -> None:
    dead = [("R0003", DEAD.rpartition("-")[0], "gpu", 1, DEAD)]

    def found() -> bool:
        return [(r["rack"], r["node"], r["kind"], int(r["silent"]), r["devices"]) for r in plant.ask("silent")] == dead

    plant.until(found, 120, "a minute without the dead GPU")


def test_each_fault_is_an_open_incident_with_its_cause(plant: Running) -> None:
    found = {r["device"]: r for r in plant.ask("incidents")}
    assert set(found) == {HOT, LEAKING, DEAD}
    assert {r["state"] for r in found.values()} == {"open"}
    assert found[LEAKING]["cause"] == "leak"
    assert found[HOT]["cause"] in ("temp_c", "mem_temp_c")


def test_jobs_have_all_gpus_and_use_energy(plant: Running) -> None:
    busy, used = plant.ask("busiest"), plant.ask("energy")
    assert sum(r["gpus"] for r in busy) in (287, 288), "of the last half minute: the dead one may be out of it"
    assert 0 < sum(r["gpus"] for r in used) <= 288, "a minute that a job holds in part counts in part"
    assert {r["job"] for r in busy} == {r["job"] for r in used}
    assert all(r["kwh"] > 0 for r in used)


def test_a_racks_power_is_the_sum_of_its_parts(plant: Running) -> None:
    rows = plant.ask("power")
    assert {r["rack"] for r in rows} == RACKS
    for row in rows:
        assert row["gpus_kw"] + row["cpus_dpus_kw"] + row["rest_kw"] == pytest.approx(row["rack_kw"], abs=0.1)
        assert row["rest_kw"] > 0


def test_the_facility_takes_more_than_its_it(plant: Running) -> None:
    (row,) = plant.ask("pue")
    assert (row["racks"], row["gpus"] in (287, 288)) == (4, True)
    assert 1.05 < row["pue"] < 1.3
    assert row["facility_mw"] > row["it_mw"] > 0.2


def test_every_device_of_every_kind_is_stored(plant: Running) -> None:
    found = {r["kind"]: r for r in plant.ask("stored")}
    assert {kind: r["devices"] for kind, r in found.items()} == {
        **dict.fromkeys(KINDS, 0),
        "gpu": 288,
        "node": 216,
        "power": 37,
        "cooling": 6,
    }
    assert all(int(r["rows"]) > 20 * int(r["devices"]) for r in found.values() if r["devices"])


def test_sql_reads_and_cannot_write(plant: Running) -> None:
    (row,) = plant.ask("SELECT count() AS n, uniqExact(device) AS devices FROM gpu")
    assert int(row["n"]) > 1000
    assert int(row["devices"]) == 288
    assert "READONLY" in run("query", "DROP TABLE gpu", *_folder(plant), ok=False).stderr


def test_tail_shows_frames_as_they_come(plant: Running) -> None:
    lines = run("tail", "gpu", "--count", "3", *_folder(plant)).stdout.splitlines()
    assert len(lines) == 3
    assert all("site-1/R000" in line and ("72 rows" in line or "71 rows" in line) for line in lines)
    one = json.loads(run("tail", "cooling", "--count", "1", "--json", *_folder(plant)).stdout.splitlines()[0])
    assert one["kind"] == "cooling"
    assert one["rack"] in RACKS | {""}
    assert dt.datetime.fromisoformat(one["ts"]).tzinfo is not None


def test_record_keeps_a_places_live_frames(plant: Running, tmp_path: Path) -> None:
    run("record", str(tmp_path / "rec"), "--seconds", "3", "--place", "R0001", *_folder(plant))
    kept = pq.read_table(tmp_path / "rec" / "gpu.parquet")
    assert kept.num_rows >= 72
    assert kept.num_rows % 72 == 0
    assert set(kept["rack"].to_pylist()) == {"R0001"}


def test_record_takes_what_is_stored(plant: Running, tmp_path: Path) -> None:
    run("record", str(tmp_path / "stored"), "--last", "10s", *_folder(plant))
    kept = pq.read_table(tmp_path / "stored" / "gpu.parquet")
    assert kept.num_rows >= 8 * 287
    assert len(set(kept["device"].to_pylist())) == 287, "all that live"


def test_every_panel_of_every_board_has_something_to_show(plant: Running) -> None:
    lines = run("dashboards", "check", *_folder(plant)).stdout.splitlines()
    panels = [line.split("\t") for line in lines[1:] if "\t" in line]
    assert len(panels) == sum(len(model.panels(body)) for body in build.load().values())
    assert [line for line in panels if line[-1]] == []


def test_a_second_factory_on_the_folder_is_refused(plant: Running) -> None:
    refused = run("up", *_folder(plant), ok=False)
    assert refused.returncode == 1
    assert f"a factory (process {plant.process.pid}) already runs" in refused.stderr


@pytest.fixture(scope="module")
def summary(plant: Running) -> dict[str, Any]:
    """The plant is stopped from here on; what it wrote at its end."""
    return plant.finish()


def test_the_summary_has_every_row_once(summary: dict[str, Any]) -> None:
    whole(summary)
    assert summary["gpus"] in (287, 288)
    assert summary["metrics_per_gpu"] >= 20
    assert summary["dead_letters"] == 0
    assert set(summary["cpu_s"]) == {"broker", "clickhouse", "sink", "stream-0", "producer"}


@pytest.mark.usefixtures("summary")
def test_a_stopped_factory_answers_from_its_folder(plant: Running) -> None:
    assert running(plant.folder) is None
    rows = plant.ask("heat-balance")
    assert {r["rack"] for r in rows} == RACKS
    assert all(0.9 < r["heat_balance"] < 1.0 for r in rows)


@pytest.mark.usefixtures("summary")
def test_history_is_written_as_csv_parquet_and_a_picture(plant: Running, tmp_path: Path) -> None:
    files = [tmp_path / "h.csv", tmp_path / "h.parquet", tmp_path / "h.png"]
    written = ("--csv", str(files[0]), "--parquet", str(files[1]), "--plot", str(files[2]))
    run("history", "gpu.temp_c", "--place", HOT, "--by", "device", "--every", "1s", *written, *_folder(plant))
    hot = [float(r["mean"]) for r in csv.DictReader(files[0].open())]
    assert hot[-1] > hot[0] + 8
    assert pq.read_table(files[1])["mean"].to_pylist() == pytest.approx(hot)
    picture = imread(files[2])
    assert min(picture.shape[:2]) > 200
    assert picture[..., :3].std() > 0.01, "something is drawn on it"


@pytest.mark.usefixtures("summary")
def test_roll_ups_of_ten_seconds_and_of_a_minute_hold_the_same(plant: Running) -> None:
    with opened(None, plant.folder) as client:
        tens, minutes = (
            client.query(f"SELECT sum(samples), sum(energy_j_inc) FROM gigawatch.gpu_{tier}").result_rows[0]
            for tier in ("10s", "1m")
        )
    assert tens[0] == minutes[0] > 0
    assert tens[1] == pytest.approx(minutes[1])


@pytest.mark.usefixtures("summary")
def test_history_from_python(plant: Running) -> None:
    table = api.history("power_w", "R0001*", by="rack", data_dir=plant.folder)
    assert table.num_rows > 10
    assert set(table["rack"].to_pylist()) == {"R0001"}
