"""ClickHouse's HTTP interface over chDB, on one machine."""
