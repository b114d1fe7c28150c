"""Pushes the dashboards to a Grafana that already runs, through grafana-api (old, so it stays behind this module)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from grafana_api.grafana_api import GrafanaClientError, GrafanaException
from grafana_api.grafana_face import GrafanaFace

from dashboards import build
from dashboards.datasource import TYPE, UID
from schemas.errors import GigawatchError
from schemas.tables import DATABASE

FOLDER_UID, FOLDER_TITLE = "gigawatch", "Gigawatch"


class PushError(GigawatchError, RuntimeError):
    """Grafana refused or did not answer: what was tried, its answer, and what to do."""


def datasource(url: str, user: str = "", password: str = "") -> dict[str, Any]:
    """The datasource for ClickHouse at `url` (as Grafana reaches it) in Grafana's API form; a user and password in the
    URL come first.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PushError(f"ClickHouse address {url!r}: wants http://[USER:PASSWORD@]HOST:PORT as Grafana reaches it")
    secure = parts.scheme == "https"
    body: dict[str, Any] = {
        "uid": UID,
        "name": "Gigawatch ClickHouse",
        "type": TYPE,
        "access": "proxy",
        "jsonData": {
            "host": parts.hostname,
            "port": parts.port or (8443 if secure else 8123),
            "protocol": "http",
            "secure": secure,
            "username": unquote(parts.username or "") or user or "default",
            "defaultDatabase": DATABASE,
        },
    }
    secret = unquote(parts.password or "") or password
    if secret:
        body["secureJsonData"] = {"password": secret}
    return body


def push(
    url: str,
    auth: str | tuple[str, str],
    clickhouse: str | None = None,
    ca: str = "",
    reader: tuple[str, str] = ("", ""),
) -> Iterator[str]:
    """Folder, datasource (when `clickhouse` is given) and dashboards; yields a line for each. `ca`: PEM file to trust;
    `reader`: Grafana's
    user and password of ClickHouse. Raises PushError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PushError(f"Grafana address {url!r}: wants http://HOST:3000")
    prefix = parts.path.strip("/")
    grafana = GrafanaFace(
        auth,
        host=parts.hostname,
        port=parts.port,
        protocol=parts.scheme,
        url_path_prefix=f"{prefix}/" if prefix else "",
        timeout=10.0,
        verify=ca or True,
    )
    try:
        yield from _push(grafana, url, datasource(clickhouse, *reader) if clickhouse else None)
    except GrafanaClientError as err:
        hint = "check the token or password" if err.status_code in (401, 403) else "see Grafana's log"
        raise PushError(f"Grafana at {url} refused ({err.status_code}): {err.message}; {hint}") from err
    except GrafanaException as err:
        raise PushError(f"Grafana at {url} failed ({err.status_code}): {err.message}") from err
    except requests.RequestException as err:
        raise PushError(f"Grafana at {url} does not answer: {type(err).__name__}. Is it running?") from err


def _push(grafana: GrafanaFace, url: str, wanted: dict[str, Any] | None) -> Iterator[str]:
    folders = {f["uid"]: f for f in grafana.folder.get_all_folders()}
    if FOLDER_UID not in folders:
        grafana.folder.create_folder(FOLDER_TITLE, FOLDER_UID)
        yield f"folder {FOLDER_TITLE} created"
    known = {d["uid"]: d for d in grafana.datasource.list_datasources()}
    if wanted is not None:
        if UID in known:
            grafana.datasource.update_datasource(known[UID]["id"], wanted)
            yield f"datasource {wanted['name']} updated"
        else:
            grafana.datasource.create_datasource(wanted)
            yield f"datasource {wanted['name']} created"
    elif UID not in known:
        yield f"no datasource with uid {UID} there yet: give --clickhouse URL, or provision it, or panels stay empty"
    folder = grafana.folder.get_folder(FOLDER_UID)
    for uid, body in build.load().items():
        grafana.dashboard.update_dashboard(
            {
                "dashboard": {**body, "id": None},
                "folderUid": FOLDER_UID,
                "folderId": folder.get("id", 0),
                "overwrite": True,
                "message": "gigawatch dashboards push",
            }
        )
        yield f"dashboard {body['title']}: {url.rstrip('/')}/d/{uid}"
