"""Tools for development: demo, local Airflow, dashboards, audit, and the sandbox in the place of servers."""
