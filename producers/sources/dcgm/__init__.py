"""dcgm-exporter: NVIDIA GPUs over Prometheus text."""
