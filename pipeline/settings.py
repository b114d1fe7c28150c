"""Credentials and trust for Kafka, ClickHouse and Grafana, read from the environment, which options and the config file
fill.

A secret comes from an environment variable or a file, never from a command line (where `ps` shows it), and is never
printed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from schemas.errors import GigawatchError


class SettingsError(GigawatchError, RuntimeError):
    """A certificate, key, user, password or config file cannot be used. Names it and states what to do."""


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

    @property
    def is_file(self) -> bool:
        return self.name in ("ca", "cert", "key")


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
        ("users", "writer_password", "For `gigawatch migrate --users`: password of gigawatch_writer.", True),
        ("users", "reader_password", "The same for gigawatch_reader.", True),
        ("users", "grafana_password", "The same for gigawatch_grafana.", True),
        ("grafana", "ca", "Grafana over https: the authority to trust, PEM."),
        ("grafana", "user", "Grafana user."),
        ("grafana", "password", "Grafana password.", True),
        ("grafana", "token", "Grafana service account token.", True),
        ("metrics", "token", "Token that clients of /metrics and /health send when these are not on loopback.", True),
        ("watch", "token", "Token that browsers of the watch page send when it is not on loopback.", True),
    )
)
_BY_KEY = {(s.service, s.name): s for s in SETTINGS}
SERVICES = tuple(dict.fromkeys(s.service for s in SETTINGS))


def value(service: str, name: str, env: Mapping[str, str] = os.environ) -> str:
    """Returns a setting's value, "" when it is not set; a secret also from the file that `..._FILE` names."""
    setting = _BY_KEY[service, name]
    found = env.get(setting.variable, "")
    path = env.get(f"{setting.variable}_FILE", "") if setting.secret else ""
    if found or not path:
        return found
    try:
        return Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as err:
        raise SettingsError(f"{setting.variable}_FILE: {path} cannot be read: {err}") from err


def config_keys(service: str) -> dict[str, Setting]:
    """Returns the keys of a service's section in the config file; `..._file` names a file that holds a secret."""
    keys = {}
    for setting in SETTINGS:
        if setting.service == service:
            keys[setting.name] = setting
            if setting.secret:
                keys[f"{setting.name}_file"] = setting
    return keys


def no_secret_in(url: str) -> None:
    """Raises SettingsError when an address given on a command line carries a password."""
    if urlsplit(url).password:
        raise SettingsError(
            "a password on a command line is visible to everyone on this machine: put it in "
            "GIGAWATCH_CLICKHOUSE_PASSWORD, or name a file in GIGAWATCH_CLICKHOUSE_PASSWORD_FILE, and give the address "
            "without it"
        )
