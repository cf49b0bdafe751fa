"""Airflow's API server: its ports, sign-in, limits of failed logins, audit trail, and links to Grafana."""
