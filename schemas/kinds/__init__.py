"""The kinds of telemetry, a file each."""
