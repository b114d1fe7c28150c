"""`gigawatch clickhouse`: the embedded engine behind ClickHouse's HTTP interface."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import click

from pipeline.commands import options
from pipeline.commands.options import Trouble


@click.command()
@click.option("--port", type=int, default=18123, show_default=True, help="Port on 127.0.0.1.")
@click.option("--password", envvar="GIGAWATCH_CLICKHOUSE_PASSWORD", default="", help="Ask this password of every client.")
@options.data_dir
def clickhouse(port: int, password: str, data_dir: Path) -> None:
    """Serves the data of --data-dir on ClickHouse's HTTP interface, on loopback, until stopped. Grafana can read it."""
    from pipeline.embedded import gateway
    from pipeline.embedded.engine import Engine, EngineError

    options.setup_logging()

    async def work(stop: asyncio.Event, abort: asyncio.Event) -> int:
        shm = Path("/dev/shm")  # noqa: S108 - a mkdtemp folder in it
        scratch = Path(tempfile.mkdtemp(prefix="gigawatch-", dir=shm if shm.is_dir() else None))
        engine = await asyncio.to_thread(Engine, data_dir / "clickhouse")
        runner = await gateway.start(gateway.Gateway(engine, scratch, password), "127.0.0.1", port)
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
        code = options.until_signal(work)
    except EngineError as err:
        raise Trouble(err.text) from err
    except OSError as err:
        raise Trouble(f"cannot listen on 127.0.0.1:{port}: {err.strerror}") from err
    sys.exit(code)
