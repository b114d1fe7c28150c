"""The embedded ClickHouse runs as its user, and its SQL can read and write files and open connections: no statement of
a client may.

A statement is judged by the engine's own parse of it (`EXPLAIN AST`), so no spelling gets around; ClickHouse servers
have grants for this.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

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
_CALL = re.compile(r"^\s*(?:Function|FunctionWithKeyValueArguments)\s+(\S+)")
_TABLE = re.compile(r"^\s*TableIdentifier\s+(.+?)(?: \((?:alias|children) .*\))?$")
_PLAIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")
_QUOTED = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`\\]|\\.|``)*`|--[^\n]*|/\*.*?\*/", re.DOTALL
)
_FILES = re.compile(r"\b(OUTFILE|INFILE|BACKUP|RESTORE)\b", re.IGNORECASE)


def forbidden_access(statement: str, explain: Callable[[str], str]) -> str:
    """What the statement would touch outside of the store; "" when nothing. `explain` gives the engine's AST, an
    indented line a node, or raises
    ValueError for what it cannot parse (which then cannot run either)."""
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
