"""Known holes in the packages that constraints.txt pins: `make audit`. Fails on one; says plainly when no vulnerability
service answers.

Wants pip-audit's JSON on standard input, since pip-audit itself takes a package that it could not look up for one
without holes.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def verdict(report: dict[str, Any]) -> tuple[int, str]:
    """(exit code, what to say)."""
    packages = report["dependencies"]
    holes = [
        f"{p['name']} {p['version']}: {v['id']}"
        + (f", mended in {', '.join(v['fix_versions'])}" if v.get("fix_versions") else "")
        for p in packages
        for v in p.get("vulns", [])
    ]
    unknown = [p["name"] for p in packages if "skip_reason" in p]
    if holes:
        return 1, "\n".join(["packages with known holes:", *holes])
    if len(unknown) == len(packages):
        return 0, f"audit: NOT DONE, no vulnerability service answers here ({len(packages)} packages not looked up)"
    outcome = f"audit: {len(packages) - len(unknown)} packages looked up, no known holes"
    return 0, outcome + (f"; not looked up: {', '.join(unknown)}" if unknown else "")


def main() -> None:
    try:
        code, text = verdict(json.load(sys.stdin))
    except (ValueError, KeyError) as err:
        code, text = 2, f"audit: pip-audit gave no report ({err}); see its errors above"
    print(text)
    sys.exit(code)


if __name__ == "__main__":
    main()
