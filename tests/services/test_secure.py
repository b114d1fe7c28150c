"""Kafka over TLS with SCRAM and with client certificates, ClickHouse over TLS: a whole factory on each, and clear
words for those let out.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from pipeline.embedded.broker import Apache
from pipeline.embedded.ports import free_port
from tests.factories import GIGAWATCH, whole

pytestmark = [pytest.mark.service, pytest.mark.apache(120), pytest.mark.xdist_group("secure")]
PASSWORD = "rack and pinion"  # noqa: S105 - a test's own


def _pkcs8(pem: bytes) -> bytes:
    """The form of a private key that Kafka reads."""
    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _one_line(pem: bytes) -> str:
    return pem.decode().strip().replace("\n", "\\n")


@dataclass(frozen=True, slots=True)
class Secure:
    """A broker that speaks SASL over TLS on one port and wants client certificates on another; files of keys and
    authorities.
    """

    scram: str
    mutual: str
    folder: Path

    def path(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    authority, stranger = trustme.CA(), trustme.CA()
    server, client = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("producer@gigawatch")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    stranger.cert_pem.write_to_path(folder / "stranger.pem")
    client.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    (folder / "password").write_text(PASSWORD + "\n")
    scram, mutual, controller = free_port(), free_port(), free_port()
    chain = "\\n".join(_one_line(c.bytes()) for c in server.cert_chain_pems)
    broker = Apache(
        folder,
        scram,
        heap="384m",
        scram={"writer": PASSWORD, "admin": "admin-" + PASSWORD},
        properties={
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"SASL_SSL://127.0.0.1:{scram},SSL://127.0.0.1:{mutual},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"SASL_SSL://127.0.0.1:{scram},SSL://127.0.0.1:{mutual}",
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SSL",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram."
            "ScramLoginModule required;",
            "ssl.keystore.type": "PEM",
            "ssl.truststore.type": "PEM",
            "ssl.keystore.key": _one_line(_pkcs8(server.private_key_pem.bytes())),
            "ssl.keystore.certificate.chain": chain,
            "ssl.truststore.certificates": _one_line(authority.cert_pem.bytes()),
        },
    )
    broker.start()
    yield Secure(f"127.0.0.1:{scram}", f"127.0.0.1:{mutual}", folder)
    broker.stop()


def _gigawatch(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command with these GIGAWATCH_ variables."""
    return subprocess.run(
        [*GIGAWATCH, *argv],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, **{f"GIGAWATCH_{name.upper()}": value for name, value in env.items()}},
    )


def _runs(folder: Path, broker: str, *options: str, before: tuple[str, ...] = (), **env: str) -> str:
    """A factory of one rack on the broker for some seconds; everything it did is stored once. Gives its logs."""
    done = _gigawatch(
        *before,
        "up",
        "--broker",
        broker,
        "--racks",
        "1",
        "--seconds",
        "15",
        "--data-dir",
        str(folder),
        "--summary",
        str(folder / "s.json"),
        *options,
        **env,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    whole(json.loads((folder / "s.json").read_text()))
    logs = "".join(p.read_text() for p in (folder / "log").glob("*.log"))
    return done.stderr + logs + "".join(p.read_text() for p in (folder / "run").glob("*.json"))


def test_scram_over_tls_by_environment(secure: Secure, tmp_path: Path) -> None:
    written = _runs(
        tmp_path,
        secure.scram,
        kafka_ca=secure.path("ca.pem"),
        kafka_user="writer",
        kafka_password_file=secure.path("password"),
    )
    assert PASSWORD not in written


def test_client_certificates_by_options_and_config_file(secure: Secure, tmp_path: Path) -> None:
    config = tmp_path / "gigawatch.toml"
    config.write_text(f'[kafka]\ncert = "{secure.path("client.pem")}"\n')
    _runs(tmp_path, secure.mutual, before=("--config", str(config), "--kafka-ca", secure.path("ca.pem")))


@pytest.mark.parametrize(
    ("port", "env", "complaint"),
    [
        ("scram", {"kafka_ca": "ca.pem", "kafka_user": "writer", "kafka_password": "wrong"}, "uthentication failed"),
        (
            "scram",
            {"kafka_ca": "stranger.pem", "kafka_user": "writer", "kafka_password": PASSWORD},
            "CERTIFICATE_VERIFY_FAILED",
        ),
        ("scram", {}, "if it requires TLS or a user, see docs/security.md"),
        ("mutual", {"kafka_ca": "ca.pem"}, "no Kafka broker answers"),
    ],
)
def test_who_does_not_belong_is_let_out_and_told_why(
    secure: Secure, port: str, env: dict[str, str], complaint: str
) -> None:
    given = {k: secure.path(v) if k.endswith("ca") else v for k, v in env.items()}
    done = _gigawatch("tail", "--count", "1", "--broker", getattr(secure, port), **given)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) < 8, done.stderr
    assert PASSWORD not in done.stderr


class _Tls:
    """TLS before a plain port: takes connections, hands the bytes on."""

    def __init__(self, target: int, pem: str) -> None:
        self._target, self._context = target, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._loop, self._ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = free_port()
        self._thread.start()
        assert self._ready.wait(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._take, "127.0.0.1", self.port, ssl=self._context)
        )
        self._ready.set()
        self._loop.run_forever()
        server.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)

        async def hand_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(hand_on(reader, there_writer), hand_on(there_reader, writer), return_exceptions=True)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


def test_clickhouse_over_tls_with_an_authority(secure: Secure, clickhouse: str) -> None:
    tls = _Tls(int(clickhouse.rpartition(":")[2]), secure.path("server.pem"))
    try:
        url = f"https://localhost:{tls.port}"
        assert _gigawatch("migrate", "--clickhouse", url, clickhouse_ca=secure.path("ca.pem")).returncode == 0
        done = _gigawatch(
            "query", "SELECT 6 * 7 AS n", "--format", "TSV", "--clickhouse", url, clickhouse_ca=secure.path("ca.pem")
        )
        assert done.stdout == "42\n", done.stderr
        for ca in (secure.path("stranger.pem"), ""):
            done = _gigawatch("query", "SELECT 1", "--clickhouse", url, **({"clickhouse_ca": ca} if ca else {}))
            assert done.returncode == 1
            assert "shows a certificate that is not trusted" in done.stderr
            assert len(done.stderr.splitlines()) == 1
        done = _gigawatch("query", "SELECT 1", "--clickhouse", url, clickhouse_ca=secure.path("nosuch.pem"))
        assert "nosuch.pem" in done.stderr
    finally:
        tls.stop()
