"""Grafana's dashboards: one module each, and what they share. `make dashboards` writes them as JSON."""
