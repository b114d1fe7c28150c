"""What is known of one endpoint between its scrapes, and what a page of it gives. Pure."""

from __future__ import annotations

from collections import Counter

from producers.emission import Emission, Event
from producers.sources.dcgm.claims import NameClaims, NameClash
from producers.sources.dcgm.endpoint import Endpoint
from producers.sources.dcgm.holds import holds_of
from producers.sources.dcgm.hosts import StableHosts
from producers.sources.dcgm.page import ScrapedBoard, ScrapedPage
from producers.sources.dcgm.parse import frames, place
from producers.sources.endpoint_frames import EndpointState
from producers.sources.label_jobs import LabelJobs
from producers.sources.seen import SeenAssets, Sighting
from schemas.derived import QUALITY
from schemas.frame import Frame

MODEL = "dcgm-exporter"


class ScrapeTarget:
    """One endpoint. `number` is its place in the configuration; trackers are those of the whole source."""

    def __init__(
        self,
        endpoint: Endpoint,
        number: int,
        site: str,
        tick_ms: int,
        *,
        claims: NameClaims,
        jobs: LabelJobs,
        assets: SeenAssets,
    ) -> None:
        self.endpoint, self.number, self.reason = endpoint, number, ""
        self.refused: Counter[str] = Counter()  # lines since its last row, by reason
        self._site, self._claims, self._jobs, self._assets = site, claims, jobs, assets
        self._hosts = StableHosts()
        self._state = EndpointState(
            site, endpoint.rack, endpoint.node or endpoint.address, endpoint.name, MODEL, tick_ms
        )
        self._boards: list[tuple[str, str, str, str, str, str, str]] = []
        self._rack, self._is_known, self._last_ms = endpoint.rack, False, 0

    @property
    def rack(self) -> str:
        """The rack that it serves; empty as long as it is not known.

        Its own rows keep the rack of the configuration: a row that moves later would leave a silent endpoint behind.
        """
        return self._rack

    def take(self, page: ScrapedPage, ts_ms: int) -> list[Emission] | NameClash:
        """Returns the frames of a page that holds devices, and the news of its boards and jobs; or the clash for which
        it is refused as a whole.
        """
        self._place(page)
        if clash := self._claims.claim(self.number, page.boards, ts_ms):
            return clash
        if not self._is_known:
            self._is_known = True
            first = page.devices[0]
            self._rack, self._state.node = first.rack, first.node or self._state.node
        out: list[Emission] = [*frames(page, ts_ms, self._site)]
        if ts_ms >= self._last_ms:  # answers may overtake each other where the time-out is longer than the tick
            self._last_ms = ts_ms
            out += self._sight(page.boards, ts_ms)
            out += self._jobs.update(self.endpoint.name, holds_of(page.boards), ts_ms)
        return out

    def rows(self, ts_ms: int, duration_s: float, page: ScrapedPage | None = None) -> list[Event | Frame]:
        """Returns the endpoint's own row where one is due, and with it quality rows of the lines refused since the
        last; `page` is None where the read gave nothing.
        """
        if page is not None:
            self.refused += page.refused
        row = self._state.row(
            ts_ms,
            is_up=page is not None,
            duration_s=duration_s,
            devices=len(page.devices) if page is not None else 0,
            refused_lines=page.refused.total() if page is not None else 0,
        )
        if row is None:
            return []
        refused, self.refused = self.refused, Counter()
        if not refused:
            return [row]
        lines = [
            {
                "ts": ts_ms,
                "kind": "endpoint",
                "site": self._site,
                "rack": self.rack,
                "metric": "refused_lines",
                "reason": reason,
                "count": count,
            }
            for reason, count in sorted(refused.items())
        ]
        return [row, Event(QUALITY, QUALITY.build_rows(lines))]

    def _place(self, page: ScrapedPage) -> None:
        endpoint = self.endpoint
        names = {} if endpoint.node else self._hosts.names(page)
        for part in page.devices:
            place(part, endpoint.rack, endpoint.node or names[part.host])

    def _sight(self, boards: list[ScrapedBoard], ts_ms: int) -> list[Event]:
        """The news of boards: nothing as long as they and their places are those of the scrape before."""
        now = [(b.label, b.gpu, b.uuid, b.model, b.pci, b.rack, b.device) for b in boards]
        if now == self._boards:
            return []
        self._boards = now
        return self._assets.update([_sighting(board) for board in boards], ts_ms)


def _sighting(board: ScrapedBoard) -> Sighting:
    names = [("dcgm", f"{board.label or board.node}/{board.gpu}")]
    if board.pci:
        names.append(("pci", f"{board.node}/{board.pci}"))
    return Sighting(
        asset=board.uuid or board.device,
        kind="gpu",
        model=board.model,
        rack=board.rack,
        node=board.node,
        device=board.device,
        names=tuple(names),
    )
