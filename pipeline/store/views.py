"""The views that show a row a device of stored frames, and raw samples under the names of a roll-up."""

from __future__ import annotations

from pipeline.store.columns import Column
from pipeline.store.quantize import MISSING
from pipeline.store.table import NAMED, Table
from schemas.catalogue import KINDS
from schemas.tables import DATABASE

#: Bits of the whole numbers and of the floats that they restore, by the float's type.
_BITS = {"Float32": "32", "Float64": "64"}
_BOARDS = "arrayResize(i.board, f.rows, '')"


def device_view(table: Table, cluster: str = "") -> str:
    """The statement that makes a row a device of the stored frames; arrays that a frame lacks, and NaN, read as NULL.

    One SELECT, since ClickHouse plans every level with all its columns.
    """
    on = f" ON CLUSTER '{cluster}'" if cluster else ""
    # frames of a store of version 1 name no boards
    joined = [f"{_BOARDS if n == 'board' else f'i.{n}'} AS name_{n}" for n in table.named]
    for column in table.columns:
        if column.name not in table.arrays:
            continue
        missing = "nan" if column.is_float else "0"
        joined.append(f"arrayResize(f.{column.name}, f.rows, {missing}) AS value_{column.name}")
        if column.name in table.resolutions:
            whole = MISSING[f"int{_BITS[column.type]}"]
            joined.append(f"arrayResize(f.{column.name}_n, f.rows, {whole}) AS whole_{column.name}")
    columns = [_shown(table, column) for column in table.columns]
    final = " FINAL" if table.version else ""
    return (
        f"CREATE OR REPLACE VIEW {DATABASE}.{table.name}{on} AS SELECT {', '.join(columns)}, f.who AS who "
        f"FROM {DATABASE}.{table.stored_as} AS f{final} "
        f"{'GLOBAL ' if cluster else ''}INNER JOIN (SELECT who, {', '.join(table.named)} FROM "
        f"{DATABASE}.identities FINAL) AS i ON f.who = i.who "
        f"ARRAY JOIN {', '.join(joined)}"
    )


def _shown(table: Table, column: Column) -> str:
    name = column.name
    if column.alias:
        return f"{column.alias} AS {name}"
    if name in table.named:
        return f"name_{name} AS {name}"
    if name not in table.arrays:
        return f"f.{name} AS {name}"
    resolution = table.resolutions.get(name)
    if resolution is not None:
        bits = _BITS[column.type]
        restored = f"toFloat{bits}(whole_{name} * {resolution!r})"
        return (
            f"multiIf(whole_{name} != {MISSING[f'int{bits}']}, {restored}, isNaN(value_{name}), NULL, value_{name}) "
            f"AS {name}"
        )
    return f"if(isNaN(value_{name}), NULL, value_{name}) AS {name}" if column.is_float else f"value_{name} AS {name}"


def raw_columns(kind: str) -> dict[str, str]:
    """What a raw view shows, by name, as SQL over the kind's samples."""
    plain = ("ts", "site", "rack", *NAMED)
    stats = {f"{m.name}_{stat}": m.name for m in KINDS[kind].metrics for stat in m.rolled if stat != "inc"}
    return {name: name for name in plain} | {"samples": "toUInt32(1)"} | stats


def raw_view(kind: str, cluster: str = "") -> str:
    """The statement that shows raw samples under the names of a roll-up (`<metric>_mean`, `<metric>_max`).

    It is a dashboard's finest tier. A counter has no increase in one sample, so those are left out.
    """
    on = f" ON CLUSTER '{cluster}'" if cluster else ""
    columns = ", ".join(sql if sql == name else f"{sql} AS {name}" for name, sql in raw_columns(kind).items())
    return f"CREATE OR REPLACE VIEW {DATABASE}.{kind}_raw{on} AS SELECT {columns} FROM {DATABASE}.{kind}"


def statements(table: Table, cluster: str = "") -> list[str]:
    """All that creates a table: its DDL, and its view where it has one."""
    return [*table.ddl(cluster), *([device_view(table, cluster)] if table.frames else [])]
