"""Grafana dashboards as code, their built JSON, alert rules, provisioning, the watch page, and the check that runs every
panel's query.
"""
