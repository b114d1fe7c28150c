"""NetBox: racks, devices, and what feeds them, over its REST interface."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from producers.sources import options
from producers.sources.options import BuildContext, option
from producers.sources.registry import source

if TYPE_CHECKING:
    from producers.sources.source import Source

TOKEN = "GIGAWATCH_NETBOX_TOKEN"  # noqa: S105 - the name of a variable


@source("netbox", help=f"NetBox's inventory: give --netbox-url; its token is in {TOKEN}")
@dataclass(frozen=True, slots=True)
class NetboxSettings:
    """Which NetBox, how often, and as which site."""

    url: str = option("--netbox-url", "", "netbox: its address, http(s)://HOST[:PORT][/PATH].", metavar="URL")
    token_file: str = option(
        "--netbox-token-file", "", f"netbox: a file with its API token. Default: {TOKEN}.", metavar="FILE"
    )
    ca: str = option("--netbox-ca", "", "netbox: the authority that signed its certificate.", metavar="FILE")
    every_s: float = option("--netbox-every", 900.0, "netbox: seconds between readings.", minimum=1)
    site: str = options.site()

    def build(self, _: BuildContext) -> Source:
        from producers.sources.netbox.client import NetboxClient
        from producers.sources.netbox.source import Netbox

        client = NetboxClient.of(self.url, os.environ.get(TOKEN, ""), self.token_file, self.ca)
        return Netbox(client, self.site, self.every_s)
