"""The watch page: the boards' own JSON, drawn without Grafana."""
