"""What happens to telemetry: compute (pure), stream (faust), store (ClickHouse), embedded services, and the command
line.
"""
