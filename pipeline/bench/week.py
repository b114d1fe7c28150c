"""A week of a large factory in a store of its own, to measure queries on: a minute of a small one, repeated over racks
and time.

Ten racks run for a minute through the whole pipeline, with faults, so that every table holds real rows. Their rows are
then copied inside ClickHouse to the requested number of racks and over the time that each tier serves, with two per
cent of noise on the means so that they compress as real ones do. Raw samples fill ten minutes and the ten second tier
an hour: more than any query may read of them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clickhouse_connect.driver.client import Client

from pipeline.embedded.ports import free_port, port_open
from pipeline.embedded.process import Process, wait_for
from pipeline.store.client import StoreError, connect
from pipeline.store.table import Table
from pipeline.store.tables import TABLES
from schemas.catalogue import KINDS
from schemas.tables import DATABASE

SEED_RACKS, SEED_S = 10, 75
GPUS_A_RACK = 72
_HOUR, _DAY = 3600, 86400
#: Kinds that the pattern's plant has.
_PLANT_KINDS = tuple(kind for kind in KINDS if kind not in ("gpu_instance", "endpoint"))
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stretch:
    """How a table is stretched over time: a moment each `step_s` over `length_s`, made of its newest `seeds`
    moments.
    """

    table: str
    step_s: int
    length_s: int
    seeds: int
    where: str = "1"


STRETCHES = (
    *(Stretch(kind, 1, 600, 10) for kind in _PLANT_KINDS),
    *(Stretch(f"{kind}_10s", 10, _HOUR, 4) for kind in _PLANT_KINDS),
    *(Stretch(f"{kind}_1m", 60, 6 * _HOUR + 900, 1) for kind in _PLANT_KINDS),
    *(Stretch(f"{kind}_1h", _HOUR, 7 * _DAY + _HOUR, 1) for kind in _PLANT_KINDS),
    *(
        Stretch(table, step, length, 1, f"window_s = {width}")
        for table in ("rack_windows", "site_windows")
        for width, step, length in ((10, 10, _HOUR), (60, 10, 6 * _HOUR), (300, 60, 7 * _DAY))
    ),
    Stretch("scores", 60, 7 * _DAY, 1),
)


@contextmanager
def filled(gpus: int, progress: Progress = lambda _: None) -> Iterator[str]:
    """Yields the URL of an embedded ClickHouse with a week of `gpus` GPUs, removed afterwards. Raises StoreError."""
    with tempfile.TemporaryDirectory(prefix="gigawatch-week-") as name:
        folder, began = Path(name), time.monotonic()
        progress(f"running {SEED_RACKS} racks for {SEED_S} s, as a pattern ...")
        _seed(folder)
        port = free_port()
        process = Process(
            "clickhouse",
            [sys.executable, "-m", "pipeline", "clickhouse", "--port", str(port), "--data-dir", str(folder)],
            folder / "log.txt",
        )
        process.start()
        wait_for(process, lambda: port_open(port), 60)
        url = f"http://127.0.0.1:{port}"
        client = connect(url)
        try:
            fill(client, gpus, progress)
            client.close()
            progress(f"filled in {time.monotonic() - began:.0f} s")
            yield url
        finally:
            process.stop()


def _seed(folder: Path) -> None:
    faults = [f"gpu-thermal@R{r + 1:04d}-N03-GPU2:20" for r in range(0, SEED_RACKS, 4)] + [
        "coolant-flow@R0003:30",
        "gpu-straggler@R0002-N05-GPU1:15",
    ]
    argv = [
        sys.executable,
        "-m",
        "pipeline",
        "up",
        "--racks",
        str(SEED_RACKS),
        "--seconds",
        str(SEED_S),
        "--data-dir",
        str(folder),
        "--quiet",
        "--no-watch",
    ]
    done = subprocess.run(
        [*argv, *(word for fault in faults for word in ("--fault", fault))], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StoreError(f"the pattern's factory ended with code {done.returncode}: {done.stderr[-500:]}")


def fill(client: Client, gpus: int, progress: Progress) -> None:
    """Copies the store's rows to `gpus` GPUs and over a week that ends at its newest moment."""
    copies = -(-gpus // (SEED_RACKS * GPUS_A_RACK))
    newest = client.query(f"SELECT toUnixTimestamp(max(ts)) FROM {DATABASE}.site_windows").result_rows[0][0]
    _people(client, copies)
    for stretch in STRETCHES:
        began = time.monotonic()
        rows = _stretch(client, stretch, copies, int(newest))
        progress(
            f"  {stretch.table} {stretch.where if stretch.where != '1' else ''}: {rows:,} rows in "
            f"{time.monotonic() - began:.1f} s"
        )
    client.command(
        f"INSERT INTO {DATABASE}.incidents ({', '.join(TABLES['incidents'].inserted)}) SELECT "
        f"{_copied(TABLES['incidents'], 'k')} FROM "
        f"{DATABASE}.incidents FINAL "
        f"CROSS JOIN (SELECT number AS k FROM numbers(1, {max(1, copies - 1)})) AS n WHERE rack != '' OR k = 1"
    )


def _renamed(name: str, k: str = "k") -> str:
    """Returns SQL for the name of a rack, node, device or CDU in copy `k`."""
    return (
        f"multiIf(match({name}, '^R[0-9][0-9][0-9][0-9]'), concat('R', "
        f"leftPad(toString(toUInt32OrZero(substring({name}, 2, 4)) + {k} * {SEED_RACKS}), 4, "
        f"'0'), substring({name}, 6)), "
        f"startsWith({name}, 'CDU-'), concat('CDU-', leftPad(toString(toUInt32OrZero(substring({name}, 5)) + "
        f"{k} * 2), 3, '0')), {name})"
    )


#: The site's own meters and plant are there once.
_ONCE = f"(SELECT who FROM {DATABASE}.identities WHERE hasAny(device, ['utility-meter', 'cooling-plant']))"


def _people(client: Client, copies: int) -> None:
    columns = ["who", "site", "rack", "node", "device", "model", "board"]
    made = [
        "cityHash64(who, k)",
        "site",
        *(f"arrayMap(x -> {_renamed('x')}, {c})" for c in ("rack", "node", "device")),
        "model",
        "arrayMap(b -> if(b = '', '', concat(b, '-', toString(k))), board)",
    ]
    client.command(
        f"INSERT INTO {DATABASE}.identities ({', '.join(columns)}) SELECT {', '.join(made)} FROM "
        f"{DATABASE}.identities FINAL CROSS JOIN "
        f"(SELECT number AS k FROM numbers(1, {copies - 1})) AS n WHERE who NOT IN {_ONCE}"
    )


def _copied(table: Table, k: str, moment: str = "") -> str:
    """Returns SQL for the values of a table's columns in copy `k`, at another moment."""
    out = []
    types = {column.name: column.type for column in table.stored}
    for name in table.inserted:
        if name == table.dated and moment:
            out.append(moment)
        elif name == "who":
            out.append(f"if({k} = 0, who, cityHash64(who, {k}))")
        elif name in ("rack", "node", "device", "incident"):
            out.append(_renamed(name, k) if name != "incident" else f"concat(incident, '/', toString({k}))")
        elif name == "stored_at" and moment:
            out.append(f"{moment} + INTERVAL 1500 MILLISECOND")
        elif name == "kafka_ts" and moment:
            out.append(f"{moment} + INTERVAL 400 MILLISECOND")
        elif name.endswith("_mean") and types[name] == "Array(Float32)":
            out.append(f"arrayMap(v -> toFloat32(round(v * (1 + 0.02 * (rand(v) / 4294967296 - 0.5)), 2)), {name})")
        else:
            out.append(name)
    return ", ".join(f"{value} AS new_{n}" for n, value in enumerate(out))


def _stretch(client: Client, stretch: Stretch, copies: int, newest: int) -> int:
    """Writes the copies of one table's newest moments over its length, in place of the pattern's own rows.

    Returns the number of rows.
    """
    table = TABLES[stretch.table]
    stored, at = f"{DATABASE}.{table.stored_as}", table.dated
    pattern = f"SELECT DISTINCT {at} FROM {stored} WHERE {stretch.where} ORDER BY {at} DESC LIMIT {stretch.seeds}"
    moments = [row[0] for row in client.query(pattern).result_rows]
    if not moments:
        raise StoreError(f"the pattern holds no {stretch.table} ({stretch.where})")
    last, steps = newest - newest % stretch.step_s, stretch.length_s // stretch.step_s
    # the pattern is copied to memory: the insert must not read the table that it writes
    client.command(
        f"CREATE OR REPLACE TABLE {DATABASE}.pattern ENGINE = Memory AS SELECT * FROM {stored} WHERE "
        f"{stretch.where} AND {at} IN ({pattern})"
    )
    client.command(
        f"TRUNCATE TABLE {stored}" if stretch.where == "1" else f"ALTER TABLE {stored} DELETE WHERE {stretch.where}",
        settings={"mutations_sync": 1},
    )
    moment = f"toDateTime64({last} - i * {stretch.step_s}, 3, 'UTC')"
    place = " AND ".join(
        part
        for part in (
            f"dense = i % {len(moments)}",
            f"(k = 0 OR who NOT IN {_ONCE})" if table.frames else "",
            "k = 0" if stretch.table == "site_windows" else "",
            "(k < 3 AND (k = 0 OR rack != ''))" if stretch.table == "scores" else "",
        )
        if part
    )
    client.command(
        f"INSERT INTO {stored} ({', '.join(table.inserted)}) SELECT {_copied(table, 'k', moment)} FROM (SELECT "
        f"*, dense_rank() OVER (ORDER BY {at} "
        f"DESC) - 1 AS dense "
        f"FROM {DATABASE}.pattern) AS p CROSS JOIN (SELECT number AS k FROM numbers({copies})) AS c CROSS JOIN "
        "(SELECT number AS i FROM "
        f"numbers({steps})) AS t "
        f"WHERE {place}",
        settings={"max_insert_threads": 2, "max_partitions_per_insert_block": 400, "max_execution_time": 600},
    )
    client.command(f"DROP TABLE {DATABASE}.pattern")
    return int(client.query(f"SELECT count() FROM {stored} WHERE {stretch.where}").result_rows[0][0])
