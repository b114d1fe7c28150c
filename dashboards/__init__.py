"""Dashboards and alerts as code, their built JSON, provisioning, the watch page, and a check of each panel's query."""
