"""Slurm: who holds which GPUs and when, jobs, and states of nodes."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from producers.sources import options
from producers.sources.options import BuildContext, option
from producers.sources.registry import source

if TYPE_CHECKING:
    from producers.sources.slurm.client import SlurmClient
    from producers.sources.slurm.places import NodePlaces
    from producers.sources.source import Source

#: The token of slurmrestd (`scontrol token`), or the file that holds it.
TOKEN, TOKEN_FILE = "GIGAWATCH_SLURM_TOKEN", "GIGAWATCH_SLURM_TOKEN_FILE"


@source("slurm", help="jobs of Slurm: squeue and sinfo, or slurmrestd with --slurm-url")
@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """How Slurm is asked and how often, and where its nodes stand."""

    slurm_url: str = option(
        "--slurm-url", "", "slurm: ask slurmrestd at http(s)://HOST:PORT or unix:PATH.", metavar="URL"
    )
    slurm_user: str = option("--slurm-user", "", "slurm: the user that slurmrestd's token is for.", metavar="NAME")
    slurm_token_file: str = option(
        "--slurm-token-file", "", f"slurm: file with slurmrestd's token. Default: {TOKEN}.", metavar="FILE"
    )
    slurm_ca: str = option("--slurm-ca", "", "slurm: the authority to trust for https, PEM.", metavar="FILE")
    slurm_command: str = option(
        "--slurm-command", "", "slurm: words before squeue and sinfo, `kubectl exec deploy/login --`.", metavar="WORDS"
    )
    slurm_places: str = option(
        "--slurm-places", "", "slurm: CSV slurm,rack,node where names differ or racks are to be known.", metavar="FILE"
    )
    slurm_every_s: float = option("--slurm-every", 10.0, "slurm: seconds between polls.", minimum=1)
    site: str = options.site()
    ticks: int | None = options.ticks()

    def build(self, _: BuildContext) -> Source:
        from producers.sources.slurm.client import SINFO
        from producers.sources.slurm.scheduler import SlurmScheduler
        from producers.sources.slurm.source import Slurm
        from producers.sources.source import SourceError

        try:
            prefix = shlex.split(self.slurm_command)
        except ValueError as err:
            raise SourceError(f"--slurm-command {self.slurm_command!r}: {err}") from err
        if self.slurm_url and prefix:
            raise SourceError("--slurm-url and --slurm-command are two ways to ask Slurm: give one")
        if self.slurm_url:
            self._check_url()
            self.token()
        else:
            program = (*prefix, *SINFO)[0]
            if shutil.which(program) is None:
                raise SourceError(f"slurm: no {program} on PATH: install Slurm's client, or give --slurm-url")
        site = self.site or options.DEFAULT_SITE
        return Slurm(
            self._rest() if self.slurm_url else self._commands(prefix),
            SlurmScheduler(site, self._places(), self.slurm_every_s),
            site=site,
            every_s=self.slurm_every_s,
            ticks=self.ticks,
            describe=self.slurm_url or " ".join((*prefix, "squeue and sinfo")),
        )

    @staticmethod
    def readiness() -> tuple[bool, str]:
        found = shutil.which("squeue")
        return (True, f"slurm: {found}") if found else (True, "slurm: no squeue here; slurmrestd by --slurm-url")

    def token(self) -> str:
        """Returns slurmrestd's token, "" for none. Raises SourceError when its file cannot be read."""
        from producers.sources.source import SourceError

        path = self.slurm_token_file or os.environ.get(TOKEN_FILE, "")
        if not path:
            return os.environ.get(TOKEN, "")
        try:
            return Path(path).read_text("utf-8").strip().removeprefix("SLURM_JWT=")
        except (OSError, ValueError) as err:
            raise SourceError(f"{path}: slurmrestd's token cannot be read: {err}") from err

    def _check_url(self) -> None:
        from producers.sources.source import SourceError

        if self.slurm_url.startswith("unix:"):
            return
        try:
            parts = urlsplit(self.slurm_url)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid, parts = False, urlsplit("")
        if not valid:
            raise SourceError("--slurm-url: wanted is http(s)://HOST:PORT or unix:PATH")
        if parts.username or parts.password:
            raise SourceError(f"--slurm-url: put the token in {TOKEN} or --slurm-token-file, not in the address")

    def _places(self) -> NodePlaces:
        from producers.sources.slurm.places import NodePlaces, parse_places
        from producers.sources.source import SourceError

        if not self.slurm_places:
            return NodePlaces()
        try:
            text = Path(self.slurm_places).read_text("utf-8")
        except (OSError, ValueError) as err:
            raise SourceError(f"--slurm-places {self.slurm_places}: {err}") from err
        return parse_places(text, self.slurm_places)

    def _rest(self) -> Callable[[], AbstractAsyncContextManager[SlurmClient]]:
        from producers.sources.slurm.client import SlurmRest, rest_session

        @asynccontextmanager
        async def opened() -> AsyncIterator[SlurmClient]:
            async with rest_session(self.slurm_url, self.slurm_ca) as session:
                yield SlurmRest(session, self.slurm_url, self.token, self.slurm_user)

        return opened

    def _commands(self, prefix: list[str]) -> Callable[[], AbstractAsyncContextManager[SlurmClient]]:
        from producers.sources.slurm.client import SlurmCommands

        @asynccontextmanager
        async def opened() -> AsyncIterator[SlurmClient]:
            yield SlurmCommands(prefix)

        return opened
