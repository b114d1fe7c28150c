"""A copy of the house, to which a test adds a thing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.conftest import ROOT

PACKAGES = ("schemas", "producers", "pipeline", "dashboards")


class House:
    """A copy of the product in `folder`; remembers which of its files were written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.touched: set[str] = set()
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("pictures"))

    def write(self, path: str, text: str) -> None:
        self.touched.add(path)
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(textwrap.dedent(text))

    def insert(self, path: str, before: str, text: str) -> None:
        """Writes `text` before the last place where `before` stands."""
        self.touched.add(path)
        whole = (self.folder / path).read_text()
        at = whole.rindex(before)
        (self.folder / path).write_text(whole[:at] + textwrap.dedent(text) + whole[at:])

    def run(self, code: str) -> str:
        """What the code prints, run on the copy."""
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(self.folder), "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def holds_to(self, thing: str) -> None:
        """The files written are those of the recipe."""
        assert {re.sub(r"\w+(?=\.md$|\.py$)", "*", path) for path in self.touched} == {
            re.sub(r"(<\w+>|\w+)(?=\.md$|\.py$)", "*", path) for path in recipe(thing)
        }, f"CONTRIBUTING.md, {thing}: {recipe(thing)}; written: {self.touched}"


def recipe(thing: str) -> list[str]:
    """The files that CONTRIBUTING.md names for adding a thing: the first table row that begins with it."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    row = re.search(rf"^\| {re.escape(thing)} \|(.*)$", page, re.MULTILINE)
    assert row is not None, f"CONTRIBUTING.md has no recipe for {thing}"
    return re.findall(r"`([\w/<>.]+\.\w+)`", row[1])
