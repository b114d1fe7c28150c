"""What no file of the repository may be: `python -m tests.hygiene [FILE]...` (without names: every file that git knows).

Text ends with one line end, no file is larger than 400 kB, none holds a private key. Called by `make lint` and as a
hook before a commit.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

MOST_BYTES = 400_000
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")
#: Recorded input, kept byte for byte.
_RECORDED = ("tests/golden/", "tests/data/")


def complaints(name: str, body: bytes) -> list[str]:
    """Returns what is wrong with a file, each with what to do."""
    found = []
    if len(body) > MOST_BYTES:
        found.append(f"{name}: {len(body):,} bytes are more than {MOST_BYTES:,}: make it smaller, or leave it out")
    if _PRIVATE_KEY.search(body):
        found.append(f"{name}: holds a private key: take it out, and use another one from now on")
    text = b"\0" not in body[:8000] and not name.startswith(_RECORDED)
    if text and body and (not body.endswith(b"\n") or body.endswith(b"\n\n")):
        found.append(f"{name}: does not end with exactly one line end: add or remove some")
    return found


def main() -> None:
    names = (
        sys.argv[1:]
        or subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    )
    paths = [Path(name) for name in names]
    found = [line for path in paths if path.is_file() for line in complaints(path.as_posix(), path.read_bytes())]
    print("\n".join(found), end="\n" if found else "")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
