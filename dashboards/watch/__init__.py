"""The watch page: the boards' own JSON, shown without Grafana."""
