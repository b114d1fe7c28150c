"""A ClickHouse client for a URL, or for the folder of a factory that is not running."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from pipeline import settings, tls
from schemas.errors import GigawatchError, first_line

#: Commands take the driver's client and error from here: no other room of theirs imports the driver.
__all__ = ["ClickHouseError", "Client", "StoreError", "connect", "open_folder", "reason"]


class StoreError(GigawatchError, RuntimeError):
    """ClickHouse cannot be used; the message states what was tried and what to do."""


def reason(err: ClickHouseError) -> str:
    """Returns ClickHouse's own sentence of an error, without what the driver wraps around it."""
    return str(err).split("server response: ")[-1].split("\n")[0].split("(for url")[0].strip()


def connect(url: str, *, readonly: bool = False) -> Client:
    """A client for `http://[user[:password]@]host:port[/database]` or `https://...`.

    Raises StoreError when the server cannot be reached.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StoreError(f"ClickHouse address {url!r}: wants http://[USER:PASSWORD@]HOST:8123")
    server_settings = {"readonly": 2} if readonly else {}
    try:
        return clickhouse_connect.get_client(
            host=parts.hostname,
            port=parts.port or (8443 if parts.scheme == "https" else 8123),
            secure=parts.scheme == "https",
            username=unquote(parts.username or "") or settings.value("clickhouse", "user") or "default",
            password=unquote(parts.password or "") or settings.value("clickhouse", "password"),
            ca_cert=_authority(parts.scheme),
            autogenerate_session_id=False,
            settings=server_settings,
            send_receive_timeout=120,
            connect_timeout=5,
            compress=False,
        )
    except settings.SettingsError as err:
        raise StoreError(str(err)) from err
    except (ClickHouseError, OperationalError, OSError) as err:
        innermost: BaseException = err
        while innermost.__cause__ or innermost.__context__:
            innermost = innermost.__cause__ or innermost.__context__ or innermost
        if isinstance(innermost, ssl.SSLCertVerificationError):
            raise StoreError(
                f"ClickHouse at {parts.hostname}:{parts.port or 8443} shows a certificate that is not trusted "
                f"({innermost.verify_message}): "
                "name its authority in --clickhouse-ca or GIGAWATCH_CLICKHOUSE_CA"
            ) from err
        raise StoreError(
            f"ClickHouse at {parts.hostname}:{parts.port or 8123} does not answer: {first_line(err, 200)}. "
            "Is it running? `gigawatch doctor` shows what can be reached"
        ) from err


def _authority(scheme: str) -> str | None:
    found = settings.value("clickhouse", "ca") if scheme == "https" else ""
    if found in ("", "system"):
        return None
    tls.context("clickhouse", found)  # names the file at fault
    return found


def open_folder(data_dir: Path) -> Client:
    """The store of a stopped factory, read in this process; raises StoreError when there is none or it is in use."""
    path = data_dir / "clickhouse"
    if not path.is_dir():
        raise StoreError(
            f"{data_dir} holds no factory's data (no folder {path.name} in it); name the --data-dir given to "
            "`gigawatch up`"
        )
    try:
        return clickhouse_connect.get_client(interface="chdb", path=str(path))
    except (ClickHouseError, RuntimeError) as err:
        raise StoreError(
            f"{path} cannot be opened: {err}. If a factory runs on it, name its address with --clickhouse"
        ) from err
