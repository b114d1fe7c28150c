"""`gigawatch watch`: the dashboards in a browser, without Grafana."""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline import settings
from pipeline.commands import options, runtime
from pipeline.commands.runtime import CommandError
from pipeline.instance import running
from pipeline.monitoring.status import Status
from pipeline.store.access import opened
from pipeline.store.client import StoreError
from schemas.loopback import is_loopback

PORT = 18080
_CLIENTS = 3
#: What one panel may cost a store: a limit ends in an error in its panel, not in a page that never loads.
_BOUNDS = {"max_execution_time": 30, "max_result_rows": 250_000, "result_overflow_mode": "throw"}


class Asker:
    """Runs SQL, read-only and bounded, from several threads: a connection each, opened again after an error."""

    def __init__(self, make: Callable[[], Client], most: int) -> None:
        self._make, self._room, self._spare = make, threading.Semaphore(most), queue.SimpleQueue[Client]()
        self.asked = self.failed = 0

    def __call__(self, sql: str) -> Any:
        from dashboards.watch.server import QueryTable

        with self._room:
            self.asked += 1
            client = self._make() if self._spare.empty() else self._spare.get()
            try:
                result = client.query(sql, settings=_BOUNDS)
            except ClickHouseError:
                self.failed += 1
                self._spare.put(client)
                raise
            self._spare.put(client)
            return QueryTable(result.column_names, result.result_rows)


@click.command()
@options.clickhouse
@options.data_dir
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Port.")
@click.option(
    "--listen",
    default="127.0.0.1",
    show_default=True,
    help="Address. Any other than loopback requires GIGAWATCH_WATCH_TOKEN.",
)
@options.status_file
def watch(clickhouse: str | None, data_dir: Path, port: int, listen: str, status_file: Path | None) -> None:
    """Serves the dashboards to a browser until stopped, from --clickhouse, the running factory, or a stopped one's
    --data-dir.

    `gigawatch up` does this by itself. The page is read-only, needs no internet, and shows every board in
    dashboards/json.
    """
    from dashboards.alerts.evaluate import firing
    from dashboards.watch import server

    runtime.setup_logging()
    for driver in ("urllib3", "clickhouse_connect"):  # the page or our own error has their warnings
        logging.getLogger(driver).setLevel(logging.ERROR)
    token = settings.value("watch", "token")
    if not is_loopback(listen) and not token:
        raise CommandError(
            f"--listen {listen} opens the page to other machines: set GIGAWATCH_WATCH_TOKEN or "
            "GIGAWATCH_WATCH_TOKEN_FILE first. Traffic is not encrypted: put a TLS proxy in front of it"
        )

    with ExitStack() as stack:
        remote = bool(clickhouse or running(data_dir))

        def make() -> Client:
            return stack.enter_context(opened(clickhouse, data_dir))

        ask = Asker(make, _CLIENTS if remote else 1)  # a folder is read in this process, which allows one
        try:
            ask("SELECT 1")
        except (StoreError, ClickHouseError) as err:
            raise CommandError(str(err)) from err

        async def work(stop: asyncio.Event, abort: asyncio.Event) -> int:
            runner = await server.serve(server.Page(ask, token, alerts=firing), listen, port)
            host = "127.0.0.1" if is_loopback(listen) else listen
            url = f"http://{host}:{runner.addresses[0][1]}{'/?token=...' if token else ''}"
            status = Status("watch", status_file, lambda: {"asked": ask.asked, "failed": ask.failed, "url": url})
            keeper = asyncio.create_task(status.keep())
            click.echo(f"dashboards: {url}; Ctrl-C stops it", err=True)
            await stop.wait()
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await runner.cleanup()
            return 0

        try:
            code = runtime.until_signal(work)
        except OSError as err:
            raise CommandError(f"cannot listen on {listen}:{port}: {err.strerror}; another --port?") from err
    sys.exit(code)
