"""Names of machines that outlive the names of exporters' pods. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from producers.sources.dcgm.page import ScrapedPage


class StableHosts:
    """The machines behind one endpoint. A machine keeps the first host name under which its boards were seen; other
    boards under another name are another machine. Without UUIDs a host name is a machine.
    """

    def __init__(self) -> None:
        self._machine: dict[str, str] = {}  # by host name
        self._boards: dict[str, str] = {}  # machine, by the UUID of a board
        self._last: list[tuple[str, str]] = []

    def names(self, page: ScrapedPage) -> dict[str, str]:
        """Returns the machine's name by host name, for each host name of the page."""
        hosts = dict.fromkeys(part.host for part in page.devices)
        pairs = [(board.host, board.uuid) for board in page.boards]
        if pairs != self._last:
            self._learn(hosts, pairs)
            self._last = pairs
        return {host: self._machine.get(host, host) for host in hosts}

    def _learn(self, hosts: dict[str, None], pairs: Sequence[tuple[str, str]]) -> None:
        boards: defaultdict[str, list[str]] = defaultdict(list)
        for host, uuid in pairs:
            if uuid:
                boards[host].append(uuid)
        for host, uuids in boards.items():
            seen = [self._boards[u] for u in uuids if u in self._boards]
            known = self._machine.get(host)
            if known in seen or (known == host and not seen):
                machine = known
            else:  # a new name: the machine of most of its boards, unless another host of the page has that name
                others = {self._machine.get(h, h) for h in hosts if h != host}
                machine = next((m for m in sorted(set(seen), key=seen.count, reverse=True) if m not in others), host)
            self._machine[host] = machine
            for uuid in uuids:
                self._boards[uuid] = machine
