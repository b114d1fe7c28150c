"""The live view shown by `gigawatch up` and `gigawatch top`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def live(url: str, statuses: Callable[[], dict[str, dict[str, Any]]], plain: bool = False, silent: bool = False) -> None:
    while True:
        await asyncio.sleep(5)
