"""Where telemetry comes from: one module a source, each an async iterator of frames, and one publisher."""
