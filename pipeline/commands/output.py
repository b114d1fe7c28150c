"""Files and folders that a command writes: checked before the work whose result goes there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from pipeline.commands.runtime import CommandError

STDOUT = Path("-")


class OutputFile(click.ParamType):
    """A file that can be written: its folder exists, and so on; `endings` are the file types that may be asked for.

    With `stdout`, `-` is standard output.
    """

    name = "file"

    def __init__(self, *endings: str, stdout: bool = False) -> None:
        self._endings, self._stdout = endings, stdout

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if self._stdout and path == STDOUT:
            return path
        if path.is_dir():
            self.fail(f"{path} is a folder: name a file in it, such as {path / 'history'}{self._example()}", param, ctx)
        if self._endings and path.suffix.lower() not in self._endings:
            self.fail(f"{path} ends in none of {', '.join(self._endings)}: name it {path.stem}{self._example()}")
        if not path.parent.is_dir():
            self.fail(f"{path.parent} is no folder: create it (mkdir -p {path.parent}), or name another", param, ctx)
        try:
            _try(path)
        except OSError as err:
            self.fail(f"{path} cannot be written ({err.strerror or err}): name another place", param, ctx)
        return path

    def _example(self) -> str:
        return self._endings[0] if self._endings else ""


class OutputFolder(click.ParamType):
    """A folder that files can be written to, or that can be created."""

    name = "folder"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        there = next(p for p in (path, *path.absolute().parents) if p.exists())
        if not there.is_dir():
            self.fail(f"{there} is a file: name a folder", param, ctx)
        try:
            _try(there / "new")
        except OSError as err:
            self.fail(f"{path} cannot be written ({err.strerror or err}): name another place", param, ctx)
        return path


def _try(path: Path) -> None:
    """Raises OSError when the file cannot be written; leaves nothing and changes nothing."""
    if path.is_file():
        with path.open("ab"):
            return
    if path.exists():  # a device or a pipe: it takes what it is given
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
        return
    with tempfile.TemporaryFile(dir=path.parent):
        pass


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Turns an OSError while `path` is written, such as a full disk, into an error for people."""
    try:
        yield
    except OSError as err:
        raise CommandError(f"{path} could not be written whole: {err.strerror or err}") from err
