"""A SELECT as named parts, so that a query is built up and never edited as text."""

from __future__ import annotations

from dataclasses import dataclass


def of(alias: str, *columns: str) -> tuple[str, ...]:
    """Returns the columns as those of one table of a join, such as `r.site`."""
    return tuple(f"{alias}.{column}" for column in columns)


@dataclass(frozen=True, slots=True)
class Select:
    """Conditions of `where` all hold; `limit` goes after LIMIT, such as `20` or `1 BY site`."""

    columns: tuple[str, ...]
    source: str
    where: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    having: str = ""
    order: tuple[str, ...] = ()
    limit: str = ""

    def sql(self) -> str:
        parts = [
            ("SELECT", ", ".join(self.columns)),
            ("FROM", self.source),
            ("WHERE", " AND ".join(self.where)),
            ("GROUP BY", ", ".join(self.group)),
            ("HAVING", self.having),
            ("ORDER BY", ", ".join(self.order)),
            ("LIMIT", self.limit),
        ]
        return " ".join(f"{word} {text}" for word, text in parts if text)

    def subquery(self) -> str:
        return f"({self.sql()})"
