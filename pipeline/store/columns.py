"""A ClickHouse column in parts, from which DDL, views and inserts are written."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: Integers that hold whole multiples of a resolution, by the float that they stand for.
_WHOLE = {"Float32": "Int32", "Float64": "Int64"}
ZSTD = "ZSTD(1)"


@dataclass(frozen=True, slots=True)
class Column:
    """`type` is the ClickHouse type, without Nullable.

    `default`, `materialized` and `alias` are expressions; an alias is computed when it is read and is not stored.
    """

    name: str
    type: str
    codec: str = ""
    nullable: bool = False
    default: str = ""
    materialized: str = ""
    alias: str = ""
    comment: str = ""

    @property
    def full_type(self) -> str:
        """The type with Nullable, and with the comment, which for whole multiples is part of what is stored."""
        return f"Nullable({self.type})" if self.nullable else self.type

    @property
    def ddl(self) -> str:
        """What stands after the column's name in CREATE TABLE."""
        words = (("DEFAULT", self.default), ("MATERIALIZED", self.materialized), ("ALIAS", self.alias))
        parts = [self.full_type, *(f"{word} {expression}" for word, expression in words if expression)]
        parts += [f"COMMENT '{self.comment}'"] if self.comment else []
        return " ".join(parts + ([f"CODEC({self.codec})"] if self.codec else []))

    @property
    def is_float(self) -> bool:
        return "Float" in self.type

    @property
    def is_inserted(self) -> bool:
        """Whether an insert may name it."""
        return not (self.alias or self.materialized)

    def array(self) -> Column:
        """The column over a frame's devices; in arrays NaN is missing."""
        return replace(self, type=f"Array({self.type})", nullable=False)

    def multiples(self, resolution: float) -> Column:
        """The array of whole multiples of `resolution` beside it. Another resolution wants another column."""
        codec = f"Delta(8), T64, {ZSTD}" if "Delta(8)" in self.codec else f"T64, {ZSTD}"
        whole = f"Array({_WHOLE[self.type]})"
        return Column(f"{self.name}_n", whole, codec, comment=f"multiples of {resolution!r}")
