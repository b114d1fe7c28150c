"""The address of one dcgm-exporter, and the place that it serves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from producers.sources.source import SourceError

_SPEC = re.compile(r"(?:(?P<rack>[^/=]+)(?:/(?P<node>[^/=]+))?=)?(?P<url>[a-zA-Z][a-zA-Z0-9+.-]*://\S*)")
_WANTED = "[RACK/NODE=]http://HOST:PORT/metrics"


def without_credentials(text: str) -> str:
    """Returns the text with the user's name and password taken out of every URL."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One exporter. `rack` and `node` name its place; empty, the exporter's own host name stands for both."""

    url: str
    rack: str = ""
    node: str = ""

    @property
    def name(self) -> str:
        """The URL without a user's name and password, for counters, logs and status."""
        return without_credentials(self.url)

    @property
    def address(self) -> str:
        """HOST:PORT, the port only where the URL has one."""
        return urlsplit(self.name).netloc

    @staticmethod
    def parse(spec: str) -> Endpoint:
        """Returns the endpoint of `[RACK/NODE=]URL`, such as `R0001/N03=http://10.0.0.3:9400/metrics`.

        Raises SourceError for what can be no URL; a host that does not resolve shows only when it is asked.
        """
        match = _SPEC.fullmatch(spec)
        if not match:
            raise SourceError(f"endpoint {without_credentials(spec)!r}: not {_WANTED}")
        url = match["url"] if match["url"].count("/") > 2 else match["url"] + "/metrics"
        endpoint = Endpoint(url, match["rack"] or "", match["node"] or "")
        try:
            parts = urlsplit(url)
            wrong = (
                f"scheme {parts.scheme!r} is not http or https"
                if parts.scheme not in ("http", "https")
                else "no host"
                if not parts.hostname
                else "port 0 is none"
                if parts.port == 0
                else ""
            )
        except ValueError as err:  # a port that is no number from 0 to 65535, an IPv6 address that is none
            wrong = str(err)
        if wrong:
            raise SourceError(f"endpoint {endpoint.name!r}: {wrong}; wanted is {_WANTED}")
        return endpoint
