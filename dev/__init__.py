"""Tools for development: demo, local Airflow, dashboards, audit, and the sandbox that stands in for servers."""
