"""Grafana's dashboards, one module each, and their shared parts. `make dashboards` writes them as JSON."""
