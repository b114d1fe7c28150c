"""Which store a query goes to: the address given, the running factory, or a stopped factory's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clickhouse_connect.driver.client import Client

from pipeline.instance import running
from pipeline.store.client import connect, open_folder


@contextmanager
def opened(url: str | None, data_dir: Path, readonly: bool = True) -> Iterator[Client]:
    """Yields a client and closes it afterwards; raises StoreError when there is no store."""
    factory = running(data_dir)
    if url:
        client = connect(url, readonly=readonly)
    elif factory is not None:
        client = connect(factory.clickhouse, readonly=readonly)
    else:
        client = open_folder(data_dir)
        if readonly:
            client.command("SET readonly = 2")
    try:
        yield client
    finally:
        client.close()
