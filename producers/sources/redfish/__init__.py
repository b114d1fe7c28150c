"""Redfish: the names that it has for our metrics. No source reads it yet."""
