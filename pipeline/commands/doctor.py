"""`gigawatch doctor`: what can be reached, what is missing, and what to do about it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
from packaging.requirements import Requirement

from pipeline import kafka
from pipeline.commands import options
from pipeline.embedded.broker import find_java, find_tansu
from pipeline.embedded.process import ProcessError
from pipeline.instance import run_dir, running
from pipeline.monitoring import status
from pipeline.monitoring.health import judge
from pipeline.monitoring.metrics import METRICS
from pipeline.monitoring.statuses import kind_of, parse
from pipeline.store.client import StoreError, connect, open_folder
from pipeline.store.tables import TABLES
from producers.sources.registry import SourceType, shown
from schemas import topics
from schemas.tables import DATABASE

OLDEST_CLICKHOUSE, OLDEST_JAVA = 25, 17
Verdict = tuple[str, str]  # ok | warn | bad, and a sentence
Check = tuple[str, Callable[[], Verdict]]


@click.command()
@options.broker
@options.clickhouse
@options.data_dir
@click.option("--grafana", envvar="GRAFANA_URL", help="Grafana, http://HOST:3000.")
def doctor(broker: str | None, clickhouse: str | None, data_dir: Path, grafana: str | None) -> None:
    """Checks this machine and the addresses given (default: the factory on --data-dir).

    Exit code 1 when something is broken.
    """
    factory = running(data_dir)
    address = broker or (factory.bootstrap if factory else None)
    url = clickhouse or (factory.clickhouse if factory else None)
    checks: list[Check] = [
        ("Python", lambda: ("ok", f"{platform.python_version()} on {os.cpu_count()} cores")),
        ("packages", _packages),
        ("disk", lambda: _disk(data_dir)),
        ("embedded broker", lambda: _found(find_tansu, "Tansu")),
        ("Apache Kafka", _apache),
        *[(found.name, partial(_source, found)) for found in shown()],
        (
            "plots",
            lambda: (
                ("ok", "matplotlib")
                if importlib.util.find_spec("matplotlib")
                else ("warn", "no matplotlib: pip install 'gigawatch[plot]'")
            ),
        ),
        (
            "factory",
            lambda: (
                ("ok", f"runs on {data_dir} (process {factory.pid})")
                if factory
                else ("warn", f"none runs on {data_dir}: `gigawatch up`")
            ),
        ),
        *(processes(data_dir) if factory else []),
        ("Kafka", lambda: _kafka(address)),
        ("ClickHouse", lambda: _clickhouse(url, data_dir)),
        *([("watch page", lambda: _answers(factory.watch, "/live"))] if factory and factory.watch else []),
        (
            "Grafana",
            lambda: _answers(grafana, "/api/health") if grafana else ("warn", "not checked: give --grafana URL"),
        ),
    ]
    marks = {
        "ok": click.style(" ok ", fg="green"),
        "warn": click.style("note", fg="yellow"),
        "bad": click.style("BAD ", fg="red", bold=True),
    }
    broken = 0
    for name, check in checks:
        verdict, text = check()
        broken += verdict == "bad"
        click.echo(f"{marks[verdict]}  {name:16s}{text}")
    raise SystemExit(1 if broken else 0)


def _found(find: Callable[[], object], name: str) -> Verdict:
    try:
        return "ok", f"{name}: {find()}"
    except ProcessError as err:
        return "warn", str(err)


def _packages() -> Verdict:
    """Whether the installed packages are those that this version requires."""
    wrong = []
    for line in importlib.metadata.requires("gigawatch") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            have = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(have, prereleases=True):
            wrong.append(f"{wanted.name} is {have}, this version needs {wanted.specifier}")
    return (
        ("bad", "; ".join(wrong) + ": pip install -c constraints.txt .")
        if wrong
        else ("ok", "all as this version needs them")
    )


def processes(data_dir: Path) -> list[Check]:
    """A check of each process that has written a status under `data_dir`; the watch page has a check of its own."""
    names = sorted(n for n in status.read_all(run_dir(data_dir)) if kind_of(n) in METRICS)
    return [(name, partial(_process, data_dir, name)) for name in names]


def _process(data_dir: Path, name: str) -> Verdict:
    """Health of a running factory's process, from its status."""
    found = parse(name, status.read(run_dir(data_dir) / f"{name}.json"))
    health = judge(found, time.time())
    where = f"metrics at {found.metrics_at}/metrics" if found.metrics_at else "it serves no metrics"
    return ("bad" if not health.ready else "warn" if health.degraded else "ok"), f"{health}; {where}"


def _apache() -> Verdict:
    try:
        java = find_java()
    except ProcessError as err:
        return "warn", str(err)
    version = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', version)
    if found and int(found[1]) < OLDEST_JAVA:
        return (
            "warn",
            f"{java} is Java {found[1]}: Apache Kafka 4 needs {OLDEST_JAVA} or newer, --broker apache will not start",
        )
    have = "KAFKA_HOME" in os.environ or shutil.which("mvn")
    return (
        ("ok", f"{java}, Kafka from {'KAFKA_HOME' if 'KAFKA_HOME' in os.environ else 'Maven'}")
        if have
        else ("warn", f"{java}, but neither KAFKA_HOME nor Maven: --broker apache will not start")
    )


def _source(found: SourceType) -> Verdict:
    """Whether a source can run here; one that cannot is no fault of the machine."""
    ready, text = found.readiness()
    return ("ok" if ready else "warn"), text


def _disk(data_dir: Path) -> Verdict:
    there = data_dir if data_dir.exists() else Path.cwd()
    free = shutil.disk_usage(there).free / 1e9
    return ("ok" if free > 5 else "warn" if free > 1 else "bad"), f"{free:.0f} GB free at {there}"


def _kafka(address: str | None) -> Verdict:
    if address is None:
        return "warn", "no address to try: give --broker HOST:PORT, or start a factory"

    async def ask() -> Verdict:
        async with kafka.admin(address) as client:
            have = set(await client.list_topics())
            missing = sorted(set(topics.TOPICS) - have)
            cluster = (await client.describe_cluster())["cluster_id"]
        return (
            ("warn", f"{address} answers (cluster {cluster}); topics not there yet: {', '.join(missing)}")
            if missing
            else ("ok", f"{address} answers (cluster {cluster}), all {len(topics.TOPICS)} topics are there")
        )

    try:
        return asyncio.run(ask())
    except kafka.BrokerError as err:
        return "bad", str(err)


def _clickhouse(url: str | None, data_dir: Path) -> Verdict:
    try:
        if url:
            client = connect(url)
        elif (data_dir / "clickhouse").is_dir():
            client = open_folder(data_dir)
        else:
            return "warn", f"no address to try, and nothing is stored in {data_dir}"
        rows = client.query(
            "SELECT name FROM system.tables WHERE database = {db:String}", parameters={"db": DATABASE}
        ).result_rows
        missing = sorted(set(TABLES) - {r[0] for r in rows})
        version = client.server_version
        client.close()
    except StoreError as err:
        return "bad", str(err)
    where = url or f"the folder {data_dir}"
    if int((version or "0").partition(".")[0]) < OLDEST_CLICKHOUSE:
        return "bad", f"{where} is ClickHouse {version}: {OLDEST_CLICKHOUSE}.x or newer is needed"
    return (
        ("warn", f"{where} answers ({version}), tables missing: {', '.join(missing)}; `gigawatch migrate` makes them")
        if missing
        else ("ok", f"{where} answers ({version}), all {len(TABLES)} tables are there")
    )


def _answers(url: str, path: str) -> Verdict:
    try:
        # the factory's, or the address that the user gave
        with urllib.request.urlopen(url.rstrip("/") + path, timeout=5) as answer:  # noqa: S310
            return "ok", f"{url} answers: {answer.read(200).decode('utf-8', 'replace').strip()}"
    except (urllib.error.URLError, OSError, ValueError) as err:
        return "bad", f"{url} does not answer: {err}"
