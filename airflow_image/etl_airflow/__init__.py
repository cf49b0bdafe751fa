"""Airflow as this project runs it: DAGs of pipelines, pods of their steps, task logs in Loki, the web server."""
