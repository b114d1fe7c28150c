"""Asking Slurm: its commands as processes, or slurmrestd over HTTP. One answer of jobs and one of nodes a poll."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import aiohttp

from producers.sources.source import SourceError
from schemas.errors import GigawatchError, first_line

#: Of one answer: 20,000 jobs of Slurm 24.05 are 170 MB.
MAX_ANSWER = 1 << 30
#: Everything in all partitions; a row a node, as rows of several nodes carry the reason and the GPUs of their first.
SQUEUE = ("squeue", "--json", "--all", "--states=all")
SINFO = ("sinfo", "--json", "--all", "--Node")
#: Versions of slurmrestd's interface, the newest first: Slurm 25.11 to 22.05.
VERSIONS = tuple(f"v0.0.{n}" for n in range(44, 37, -1))


class SlurmFailure(GigawatchError, RuntimeError):
    """A question that Slurm did not answer. `reason` is a word for counters."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class SlurmClient(Protocol):
    """`ask` returns the answers (jobs, nodes) as JSON text, or raises SlurmFailure; `name` is for people."""

    @property
    def name(self) -> str: ...

    async def ask(self) -> tuple[str, str]: ...


class SlurmCommands:
    """`squeue` and `sinfo`, after the words of `prefix` (`kubectl exec ... --`). A process that is cancelled is ended
    with its children.
    """

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self._prefix = tuple(prefix)

    @property
    def name(self) -> str:
        return " ".join((*self._prefix, "squeue"))

    async def ask(self) -> tuple[str, str]:
        nodes = await _output((*self._prefix, *SINFO))
        return await _output((*self._prefix, *SQUEUE)), nodes


async def _output(command: tuple[str, ...]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as err:
        raise SlurmFailure("no-command", f"{command[0]} cannot be started: {first_line(err)}") from err
    try:
        out, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        words = complaint.decode("utf-8", "replace").strip().splitlines()
        raise SlurmFailure("exit-code", f"{command[0]} ended with {process.returncode}: {words[-1] if words else ''}")
    return out.decode("utf-8", "replace")


class SlurmRest:
    """slurmrestd at `url`, http(s) or `unix:PATH`. Of `versions` the first that the server knows is used from then on.

    `token` is asked for at each poll, since tokens expire; an empty one is not sent (a Unix socket needs none).
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        token: Callable[[], str],
        user: str = "",
        versions: Sequence[str] = VERSIONS,
    ) -> None:
        self._session, self._token, self._user, self._versions = session, token, user, list(versions)
        self._url = url
        self._base = "http://slurmrestd" if url.startswith("unix:") else url.rstrip("/")

    @property
    def name(self) -> str:
        return self._url

    async def ask(self) -> tuple[str, str]:
        token = self._token()
        headers = {"Accept": "application/json"}
        headers |= {"X-SLURM-USER-TOKEN": token} if token else {}
        headers |= {"X-SLURM-USER-NAME": user} if (user := self._user or user_of(token)) else {}
        while True:
            version = self._versions[0]
            status, nodes = await self._get(f"{self._base}/slurm/{version}/nodes", headers)
            if status != 404 or len(self._versions) == 1:
                break
            del self._versions[0]
        if status == 200:
            status, jobs = await self._get(f"{self._base}/slurm/{version}/jobs", headers)
        if status != 200:
            hint = ": is the token valid?" if status in (401, 403, 511) else ""
            raise SlurmFailure(f"http-{status}", f"slurmrestd answers with HTTP status {status}{hint}")
        self._versions = [version]
        return jobs, nodes

    async def _get(self, url: str, headers: dict[str, str]) -> tuple[int, str]:
        try:
            async with self._session.get(url, headers=headers) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(1 << 20):
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise SlurmFailure("too-large", f"an answer of more than {MAX_ANSWER >> 20} MB")
                return response.status, body.decode("utf-8", "replace")
        except (aiohttp.ClientError, OSError) as err:
            reason = "invalid-address" if isinstance(err, aiohttp.InvalidURL) else "unreachable"
            raise SlurmFailure(reason, first_line(err)) from err
        except ValueError as err:  # a host name that IDNA does not take
            raise SlurmFailure("invalid-address", first_line(err)) from err


def user_of(token: str) -> str:
    """Returns the user that a token of `scontrol token` is for, "" where it names none: older slurmrestd wants both."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return ""
    name = claims.get("sun") if isinstance(claims, dict) else None
    return name if isinstance(name, str) else ""


@contextlib.asynccontextmanager
async def rest_session(url: str, ca: str = "") -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP session for slurmrestd; `ca` is the file of the authority to trust. Raises SourceError."""
    connector: aiohttp.BaseConnector
    if url.startswith("unix:"):
        connector = aiohttp.UnixConnector(url.removeprefix("unix:").removeprefix("//"))
    elif ca:
        try:
            connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca))
        except (OSError, ssl.SSLError) as err:
            raise SourceError(f"--slurm-ca {ca}: no authority can be read from it: {first_line(err)}") from err
    else:
        connector = aiohttp.TCPConnector()
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield session
