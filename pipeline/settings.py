"""Who we are to Kafka, ClickHouse and Grafana, and whom we trust. Read from the environment, which options and a config
file fill.

A secret comes from an environment variable or a file, never from a command line (where `ps` shows it), and is never
printed.
"""

from __future__ import annotations

import os
import ssl
import stat
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class SecurityError(RuntimeError):
    """A certificate, key, name or password cannot be used: says which and what to do."""


@dataclass(frozen=True, slots=True)
class Setting:
    """`kafka.ca` is the option `--kafka-ca`, the variable GIGAWATCH_KAFKA_CA, and `ca` under `[kafka]` in the config
    file.
    """

    service: str
    name: str
    help: str
    secret: bool = False

    @property
    def variable(self) -> str:
        return f"GIGAWATCH_{self.service}_{self.name}".upper()


SETTINGS = tuple(
    Setting(*s)
    for s in (
        ("kafka", "ca", "Kafka over TLS: the authority to trust, PEM. `system`: the machine's own list."),
        ("kafka", "cert", "Client certificate for Kafka, PEM (mutual TLS)."),
        ("kafka", "key", "Its private key, PEM."),
        ("kafka", "key_password", "The key's password.", True),
        ("kafka", "user", "Kafka user (SASL)."),
        ("kafka", "password", "Kafka password.", True),
        ("kafka", "mechanism", "SCRAM-SHA-512 (default), SCRAM-SHA-256 or PLAIN."),
        ("clickhouse", "ca", "ClickHouse over https: the authority to trust, PEM."),
        ("clickhouse", "user", "ClickHouse user; a user in the URL comes first."),
        ("clickhouse", "password", "ClickHouse password.", True),
        ("users", "writer_password", "For `gigawatch migrate --users`: of gigawatch_writer.", True),
        ("users", "reader_password", "The same of gigawatch_reader.", True),
        ("users", "grafana_password", "The same of gigawatch_grafana.", True),
        ("grafana", "ca", "Grafana over https: the authority to trust, PEM."),
        ("grafana", "user", "Grafana user."),
        ("grafana", "password", "Grafana password.", True),
        ("grafana", "token", "Grafana service account token.", True),
        ("metrics", "token", "Wanted of who reads metrics and health, when these are not on loopback.", True),
        ("watch", "token", "Wanted of who looks at the watch page, when it is not on loopback.", True),
    )
)
_BY_KEY = {(s.service, s.name): s for s in SETTINGS}
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")


def value(service: str, name: str, env: Mapping[str, str] = os.environ) -> str:
    """A setting's value, "" when it is not set; of a secret also from the file that `..._FILE` names."""
    setting = _BY_KEY[service, name]
    found = env.get(setting.variable, "")
    path = env.get(f"{setting.variable}_FILE", "") if setting.secret else ""
    if found or not path:
        return found
    try:
        return Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as err:
        raise SecurityError(f"{setting.variable}_FILE: {path} cannot be read: {err}") from err


def read_config(path: Path, env: MutableMapping[str, str]) -> None:
    """Fills `env` with what the TOML file says and `env` does not. Relative file names are relative to the file."""
    try:
        said = tomllib.loads(path.read_text("utf-8"))
    except OSError as err:
        raise SecurityError(f"config file {path} cannot be read: {err}") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise SecurityError(f"config file {path} is not TOML: {err}") from err
    holds_secret = False
    for service, section in said.items():
        if not isinstance(section, dict):
            raise SecurityError(
                f"config file {path}: {service!r} stands outside a section; sections are [kafka], "
                "[clickhouse], [users], [grafana], "
                f"[metrics], [watch]"
            )
        for key, given in section.items():
            name, from_file = key.removesuffix("_file"), key.endswith("_file")
            setting = _BY_KEY.get((service, name))
            if setting is None or (from_file and not setting.secret):
                known = ", ".join(
                    s.name + (f", {s.name}_file" if s.secret else "") for s in SETTINGS if s.service == service
                )
                there = (
                    f"there are {known}"
                    if known
                    else "sections are [kafka], [clickhouse], [users], [grafana], [metrics], [watch]"
                )
                raise SecurityError(f"config file {path}: no setting {key!r} in [{service}]; {there}")
            if not isinstance(given, str):
                raise SecurityError(f"config file {path}: [{service}] {key} must be text")
            holds_secret |= setting.secret and not from_file
            is_path = from_file or (name in ("ca", "cert", "key") and given != "system")
            env.setdefault(
                setting.variable + ("_FILE" if from_file else ""), str(path.parent / given) if is_path else given
            )
    if holds_secret and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        raise SecurityError(
            f"config file {path} holds a password and others may read it: chmod 600 {path}, or name a file "
            "with password_file"
        )


def no_secret_in(url: str) -> None:
    """Raises SecurityError when an address given on a command line carries a password."""
    if urlsplit(url).password:
        raise SecurityError(
            "a password on a command line is seen by everyone on this machine: put it in "
            "GIGAWATCH_CLICKHOUSE_PASSWORD, or name a file in "
            "GIGAWATCH_CLICKHOUSE_PASSWORD_FILE, and give the address without it"
        )


def kafka_options(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What every aiokafka client is given: `security_protocol` and what belongs to it. Raises SecurityError."""
    get = {s.name: value("kafka", s.name, env) for s in SETTINGS if s.service == "kafka"}
    tls, sasl = bool(get["ca"] or get["cert"]), bool(get["user"])
    options: dict[str, Any] = {"security_protocol": ("SASL_" if sasl else "") + ("SSL" if tls else "PLAINTEXT")}
    if tls:
        options["ssl_context"] = context("kafka", get["ca"], get["cert"], get["key"], get["key_password"])
    if sasl:
        mechanism = get["mechanism"] or MECHANISMS[0]
        if mechanism not in MECHANISMS:
            raise SecurityError(f"Kafka SASL mechanism {mechanism!r}: it is one of {', '.join(MECHANISMS)}")
        if not get["password"]:
            raise SecurityError(
                f"Kafka user {get['user']} has no password: set GIGAWATCH_KAFKA_PASSWORD or "
                "GIGAWATCH_KAFKA_PASSWORD_FILE"
            )
        options |= {
            "sasl_mechanism": mechanism,
            "sasl_plain_username": get["user"],
            "sasl_plain_password": get["password"],
        }
    return options


def context(service: str, ca: str, cert: str = "", key: str = "", password: str = "") -> ssl.SSLContext:
    """A TLS client context that checks names and certificates. Raises SecurityError that names the file at fault."""
    try:
        made = ssl.create_default_context(cafile=None if ca in ("", "system") else ca)
    except (OSError, ssl.SSLError) as err:
        raise SecurityError(f"{service} authority {ca}: {err}; it wants a PEM file with certificates") from err
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert:
        try:
            made.load_cert_chain(cert, key or None, password or "")
        except (OSError, ssl.SSLError) as err:
            raise SecurityError(f"{service} certificate {cert} with key {key or cert}: {err}") from err
    return made
