"""The sink: Kafka to ClickHouse, exactly once."""
