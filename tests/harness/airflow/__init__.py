"""Airflow's API server, single tasks and their logs, as deployed."""
