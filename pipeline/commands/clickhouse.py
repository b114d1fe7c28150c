"""`gigawatch clickhouse`: the embedded engine behind ClickHouse's HTTP interface."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import click

from pipeline import settings
from pipeline.commands import options, runtime
from pipeline.commands.runtime import CommandError
from schemas.loopback import is_loopback


@click.command()
@click.option("--port", type=int, default=18123, show_default=True, help="Port.")
@click.option(
    "--listen", default="127.0.0.1", show_default=True, help="Address. Other than loopback it needs a password."
)
@options.data_dir
def clickhouse(port: int, listen: str, data_dir: Path) -> None:
    """Serves the data of --data-dir on ClickHouse's HTTP interface, on loopback, until stopped. Grafana can read it.

    With GIGAWATCH_CLICKHOUSE_PASSWORD (or ..._FILE) set, every client must send it.
    """
    from pipeline.embedded.clickhouse import server
    from pipeline.embedded.clickhouse.chdb_engine import Engine, EngineError

    runtime.setup_logging()
    password = settings.value("clickhouse", "password")
    if not is_loopback(listen) and not password:
        raise CommandError(
            f"--listen {listen} is open to other machines: set GIGAWATCH_CLICKHOUSE_PASSWORD or "
            "GIGAWATCH_CLICKHOUSE_PASSWORD_FILE first. Traffic is not encrypted: put a TLS proxy before it, or use a "
            "ClickHouse server"
        )

    async def work(stop: asyncio.Event, abort: asyncio.Event) -> int:
        shm = Path("/dev/shm")  # noqa: S108 - a mkdtemp folder in it
        scratch = Path(tempfile.mkdtemp(prefix="gigawatch-", dir=shm if shm.is_dir() else None))
        engine = await asyncio.to_thread(Engine, data_dir / "clickhouse")
        runner = await server.start(server.ClickHouseServer(engine, scratch, password), listen, port)
        try:
            await stop.wait()
        finally:
            await runner.cleanup()
            engine.close()
            for left in scratch.iterdir():
                left.unlink()
            scratch.rmdir()
        return 0

    try:
        code = runtime.until_signal(work)
    except EngineError as err:
        raise CommandError(err.text) from err
    except OSError as err:
        raise CommandError(f"cannot listen on {listen}:{port}: {err.strerror}") from err
    sys.exit(code)
