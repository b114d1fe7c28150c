"""Grafana dashboards as code: boards, their built JSON, alert rules, provisioning, the watch page, and the check of
every panel's query.
"""
