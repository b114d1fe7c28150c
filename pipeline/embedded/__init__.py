"""The same services on one machine without Docker: brokers, ClickHouse's engine behind its HTTP interface, a
supervisor.
"""
