"""Grafana's data links as addresses of the watch page, which has the same paths.

Every value that is put in is quoted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

_PART = re.compile(r"\$\{([^}]+)\}")
Values = Mapping[str, str | Sequence[str]]


def address(
    template: str,
    values: Values,
    over: tuple[str, str],
    *,
    text: str = "",
    fields: Mapping[str, object] | None = None,
    labels: Mapping[str, str] | None = None,
) -> str:
    """The link with `${__value.text}`, `${__data.fields.NAME}`, `${__field.labels.NAME}`, `${__url_time_range}`,
    `${VARIABLE}` and
    `${VARIABLE:queryparam}` filled in; "" for one that does not lead into this page, or that names a field without a
    value.
    """
    missing = False

    def part(match: re.Match[str]) -> str:
        nonlocal missing
        name = match[1]
        if name == "__url_time_range":
            return f"from={quote(over[0])}&to={quote(over[1])}"
        if name == "__value.text":
            return quote(text, safe="")
        for prefix, source in (("__data.fields.", fields), ("__field.labels.", labels)):
            if name.startswith(prefix):
                value = (source or {}).get(name.removeprefix(prefix))
                missing = missing or value in (None, "")
                return quote(str(value), safe="")
        variable, _, form = name.partition(":")
        chosen = values.get(variable, "")
        several = [chosen] if isinstance(chosen, str) else list(chosen)
        if form == "queryparam":
            return "&".join(f"var-{variable}={quote(v, safe='')}" for v in several)
        return quote(several[0] if several else "", safe="")

    made = _PART.sub(part, template)
    return "" if missing or not made.startswith("/d/") else made
