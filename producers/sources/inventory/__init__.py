"""Inventory files that a person writes: what ought to be there, what feeds what, and other systems' names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from producers.sources import options
from producers.sources.options import BuildContext, option
from producers.sources.registry import source

if TYPE_CHECKING:
    from producers.sources.source import Source


@source("inventory", help="inventory files (CSV, TOML): give each with --inventory FILE")
@dataclass(frozen=True, slots=True)
class InventorySettings:
    """Which files, and of which site."""

    files: tuple[str, ...] = option(
        "--inventory", (), "inventory: a file of assets, edges or names. May be repeated.", metavar="FILE"
    )
    site: str = options.site()

    def build(self, _: BuildContext) -> Source:
        from producers.sources.inventory.source import Inventory

        return Inventory(self.files, self.site or options.DEFAULT_SITE)
