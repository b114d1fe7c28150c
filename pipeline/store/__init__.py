"""ClickHouse: tables, the Kafka-to-ClickHouse sink, roll-ups, history.

The only place that imports clickhouse_connect.
"""
