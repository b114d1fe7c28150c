"""Credentials and trust: from options and environment; secrets only from environment and files; errors that name the
file or variable at fault.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline import settings
from pipeline.cli import gigawatch
from pipeline.kafka import kafka_options
from pipeline.settings import SETTINGS, SettingsError, value

PASSWORD = "correct horse"  # noqa: S105 - a test's own


def test_nothing_set_is_plain_kafka() -> None:
    assert kafka_options({}) == {"security_protocol": "PLAINTEXT"}


def test_a_user_means_sasl_and_an_authority_means_tls() -> None:
    env = {"GIGAWATCH_KAFKA_USER": "writer", "GIGAWATCH_KAFKA_PASSWORD": PASSWORD}
    assert kafka_options(env) == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "writer",
        "sasl_plain_password": PASSWORD,
    }
    both = kafka_options({**env, "GIGAWATCH_KAFKA_CA": "system"})
    assert both["security_protocol"] == "SASL_SSL"
    context: ssl.SSLContext = both["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text(PASSWORD + "\n")
    assert value("kafka", "password", {"GIGAWATCH_KAFKA_PASSWORD_FILE": str(tmp_path / "pw")}) == PASSWORD
    with pytest.raises(SettingsError, match=r"GIGAWATCH_KAFKA_PASSWORD_FILE: .*nosuch cannot be read"):
        value("kafka", "password", {"GIGAWATCH_KAFKA_PASSWORD_FILE": str(tmp_path / "nosuch")})


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ({"GIGAWATCH_KAFKA_USER": "writer"}, "user writer has no password: set GIGAWATCH_KAFKA_PASSWORD"),
        (
            {"GIGAWATCH_KAFKA_USER": "w", "GIGAWATCH_KAFKA_PASSWORD": "x", "GIGAWATCH_KAFKA_MECHANISM": "MD5"},
            "mechanism 'MD5': it is one of SCRAM-SHA-512",
        ),
        ({"GIGAWATCH_KAFKA_CA": "/nosuch.pem"}, "authority /nosuch.pem"),
        ({"GIGAWATCH_KAFKA_CA": "system", "GIGAWATCH_KAFKA_CERT": "/nosuch.pem"}, "certificate /nosuch.pem"),
    ],
)
def test_what_cannot_be_used_is_named(env: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        kafka_options(env)


def test_no_command_takes_a_secret_as_an_option() -> None:
    offered = {o for o in CliRunner().invoke(gigawatch, ["--help"]).output.split() if o.startswith("--")}
    assert {f"--{s.service}-{s.name}" for s in SETTINGS if not s.secret} <= offered
    assert not any("password" in o or "token" in o for o in offered)
    done = CliRunner().invoke(
        gigawatch, ["query", "hottest", "--clickhouse", f"http://me:{PASSWORD.replace(' ', '')}@127.0.0.1:1"]
    )
    assert done.exit_code == 1
    assert "GIGAWATCH_CLICKHOUSE_PASSWORD_FILE" in done.output
    assert PASSWORD.replace(" ", "") not in done.output


def test_the_embedded_store_listens_beyond_loopback_only_with_a_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GIGAWATCH_CLICKHOUSE_PASSWORD", raising=False)
    # what is refused
    everywhere = ["--listen", "0.0.0.0"]  # noqa: S104
    done = CliRunner().invoke(gigawatch, ["clickhouse", *everywhere, "--data-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "set GIGAWATCH_CLICKHOUSE_PASSWORD" in done.output


def test_secrets_stay_out_of_what_is_printed() -> None:
    assert all(PASSWORD not in repr(s) for s in SETTINGS)
    assert "password" in {s.name for s in settings.SETTINGS if s.secret}
