"""Where telemetry comes from: sources emit, the publisher sends (`emission` is the contract between the two)."""
