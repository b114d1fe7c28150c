"""Alert rules for operators: declared ones and those of detectors, their evaluation, their provisioning in Grafana."""
