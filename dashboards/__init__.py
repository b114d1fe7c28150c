"""How it is seen: Grafana dashboards as code, their built JSON, provisioning, and the check that runs every panel's
query.
"""
