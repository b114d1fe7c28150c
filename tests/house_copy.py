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
        """The files written are those of the recipe, one for each."""
        wanted = [re.sub(r"<\w+>", r"[\\w-]+", re.escape(path)) for path in recipe(thing)]
        written = sorted(self.touched)
        found = [[path for path in written if re.fullmatch(pattern, path)] for pattern in wanted]
        assert sorted(path for paths in found for path in paths) == written, f"{thing}: {wanted}; written: {written}"
        assert all(len(paths) == 1 for paths in found), f"{thing}: {wanted}; written: {written}"


def recipe(thing: str) -> list[str]:
    """The files that CONTRIBUTING.md names for adding a thing: the first table row that begins with it."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    row = re.search(rf"^\| {re.escape(thing)} \|(.*)$", page, re.MULTILINE)
    assert row is not None, f"CONTRIBUTING.md has no recipe for {thing}"
    return re.findall(r"`([\w/<>.]+\.\w+)`", row[1])


#: Frames of two racks, a metric named `added` among the columns; what the engine gives in a minute.
ENGINE = """
    import numpy as np
    from pipeline.compute.engine import KindEngine
    from schemas.frame import build

    def closed(kind, **columns):
        engine, out = KindEngine(kind), {}
        for tick in range(80):
            identity = {"site": ["s"] * 4, "rack": ["R1", "R1", "R2", "R2"], "node": ["n"] * 4,
                        "device": ["a", "b", "c", "d"], "model": ["m"] * 4, "board": [""] * 4}
            values = {name: np.asarray(of(tick), np.float64) for name, of in columns.items()}
            for pane in engine.add([build(kind, 1_750_000_000_000 + 1000 * tick, identity, values)]):
                for name, batch in pane.batches.items():
                    out.setdefault(name, []).append(batch)
        return out

    def column(batches, name, width=60):
        rows = [row for batch in batches for row in batch.to_pylist() if row.get("window_s", width) == width]
        return [row[name] for row in rows if row["ts"] == rows[-1]["ts"]]
"""


def snippet(*parts: str) -> str:
    return "\n".join(textwrap.dedent(part) for part in parts)
