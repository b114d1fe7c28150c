"""Windows, scores, physics and incidents: arrays and a time in, arrays out.

No I/O, no clock, no Kafka, no ClickHouse.
"""
