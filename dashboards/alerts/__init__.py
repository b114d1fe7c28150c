"""What should wake an operator: rules, their evaluation, their provisioning in Grafana."""
