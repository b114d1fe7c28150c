"""The ClickHouse datasource as Grafana's typed builders see it: the SDK has no query class for it, so here is one."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models.dashboard import DataSourceRef

TYPE = "grafana-clickhouse-datasource"
UID = "gigawatch-clickhouse"
PLUGIN_VERSION = "4.20.0"

TIME_SERIES, TABLE = 0, 1


def source() -> DataSourceRef:
    return DataSourceRef(type_val=TYPE, uid=UID)


@dataclass(slots=True)
class Query(variants.Dataquery, builder.Builder[variants.Dataquery]):
    """One panel target: SQL with the plugin's macros; `format` is TIME_SERIES or TABLE."""

    sql: str
    format: int = TABLE
    ref_id: str = "A"

    def build(self) -> Query:
        return self

    def to_json(self) -> dict[str, object]:
        return {
            "datasource": {"type": TYPE, "uid": UID},
            "refId": self.ref_id,
            "queryType": "sql",
            "editorType": "sql",
            "rawSql": self.sql,
            "format": self.format,
            "pluginVersion": PLUGIN_VERSION,
        }
