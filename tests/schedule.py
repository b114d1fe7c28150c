"""Which tests go to one worker: those of a file that is marked with `xdist_group`, since they share a fixture.

pytest-xdist 3.8 hands groups from worker to controller inside the test's id, which pytest 9.2 no longer lets it write:
its own `loadgroup` spreads a group over all workers without a word.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

_GROUP = re.compile(r"pytest\.mark\.xdist_group\(\"([\w-]+)\"\)")


class Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of one group in one worker, in their order; every other test by itself."""

    def _split_scope(self, nodeid: str) -> str:
        return group(Path(str(self.config.rootpath)) / nodeid.partition("::")[0]) or nodeid


@cache
def group(path: Path) -> str:
    """Returns the group that a test file is marked with, empty for none."""
    found = _GROUP.search(path.read_text()) if path.is_file() else None
    return found[1] if found else ""
