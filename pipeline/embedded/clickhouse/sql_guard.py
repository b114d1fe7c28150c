"""No statement of a client reads or writes files or opens connections, though the embedded ClickHouse could: it runs as
its user.

The engine's own parse of a statement (`EXPLAIN AST`) decides, so no spelling evades it; ClickHouse servers have grants
for this.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from schemas.errors import GigawatchError

#: Table functions and engines that read or write outside of the store.
OUTSIDE = frozenset(
    (
        "file",
        "filecluster",
        "url",
        "urlcluster",
        "s3",
        "s3cluster",
        "gcs",
        "oss",
        "cosn",
        "hdfs",
        "hdfscluster",
        "azureblobstorage",
        "azureblobstoragecluster",
        "remote",
        "remotesecure",
        "mysql",
        "postgresql",
        "mongodb",
        "redis",
        "sqlite",
        "odbc",
        "jdbc",
        "executable",
        "executablepool",
        "input",
        "iceberg",
        "icebergs3",
        "iceberglocal",
        "iceberghdfs",
        "icebergazure",
        "deltalake",
        "deltalakes3",
        "deltalakelocal",
        "deltalakeazure",
        "hudi",
        "hive",
        "ytsaurus",
        "python",
        "distributed",
        "kafka",
        "rabbitmq",
        "nats",
        "fuzzquery",
        "arrowflight",
        "paimon",
        "paimons3",
        "paimonlocal",
        "backup",
        "disk",
        "filelog",
        "materializedpostgresql",
        "s3queue",
        "azurequeue",
        "embeddedrocksdb",
        "http",
        "clickhouse",
        "externaldistributed",
    )
)
_MOST_REMEMBERED = 4096
_CALL = re.compile(r"^\s*(?:Function|FunctionWithKeyValueArguments)\s+(\S+)")
_TABLE = re.compile(r"^\s*TableIdentifier\s+(.+?)(?: \((?:alias|children) .*\))?$")
_PLAIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")
_QUOTED = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`\\]|\\.|``)*`|--[^\n]*|/\*.*?\*/", re.DOTALL
)
_FILES = re.compile(r"\b(OUTFILE|INFILE|BACKUP|RESTORE)\b", re.IGNORECASE)


class ForbiddenAccessError(GigawatchError):
    """A statement would touch what its text names, outside of the store."""


class SqlGuard:
    """`explain(statement, params)` as for `forbidden_access`. Statements that passed are remembered, since dashboards
    send the same ones again and again.
    """

    def __init__(self, explain: Callable[[str, dict[str, str]], str]) -> None:
        self._explain = explain
        self._passed: set[int] = set()

    def check(self, statement: str, params: dict[str, str]) -> None:
        """Raises ForbiddenAccessError."""
        key = hash((statement, tuple(sorted(params.items()))))
        if key in self._passed:
            return
        found = forbidden_access(statement, lambda text: self._explain(text, params))
        if found:
            raise ForbiddenAccessError(found)
        if len(self._passed) >= _MOST_REMEMBERED:
            self._passed.clear()
        self._passed.add(key)


def forbidden_access(statement: str, explain: Callable[[str], str]) -> str:
    """Returns what the statement would touch outside of the store, "" for nothing.

    `explain` returns the engine's AST, an indented line a node, and raises ValueError for what does not parse (and so
    does not run either).
    """
    bare = _QUOTED.sub(" '' ", statement)
    if bare.rstrip().rstrip(";").count(";"):
        return "more than one statement in a request"
    found = _FILES.search(bare)
    if found:
        return found[1].upper()
    try:
        tree = explain(statement)
    except ValueError:
        return ""
    for line in tree.splitlines():
        call = _CALL.match(line)
        if call and call[1].lower() in OUTSIDE:
            return f"{call[1]}()"
        table = _TABLE.match(line)
        if table and (not _PLAIN.fullmatch(table[1]) or Path(table[1]).exists()):
            return f"the file {table[1]!r}"
    return ""
