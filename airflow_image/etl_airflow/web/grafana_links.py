"""Grafana in Airflow's UI: an entry in the menu, and tabs at a DAG, a run and a task, which know what they are at.

Grafana is at /grafana of the same host. The time looked at is a week; Grafana's own picker widens it.
"""

from airflow.plugins_manager import AirflowPlugin

_WEEK = "from=now-7d&to=now&kiosk"


class GrafanaPlugin(AirflowPlugin):
    """Airflow puts the ids of what is open in place of the names in braces."""

    name = "etl_airflow.web.grafana_links"
    external_views = [  # noqa: RUF012 - as Airflow reads it
        {"name": "Grafana", "destination": "nav", "url_route": "grafana", "href": "/grafana/d/overview"},
        {
            "name": "Metrics",
            "destination": "dag",
            "url_route": "metrics",
            "href": f"/grafana/d/dags?var-dag_id={{DAG_ID}}&{_WEEK}",
        },
        {
            "name": "All lines",
            "destination": "dag_run",
            "url_route": "run-lines",
            "href": f"/grafana/d/logs?var-dag_id={{DAG_ID}}&var-run_id={{RUN_ID}}&{_WEEK}",
        },
        {
            "name": "All lines",
            "destination": "task_instance",
            "url_route": "task-lines",
            "href": f"/grafana/d/logs?var-dag_id={{DAG_ID}}&var-run_id={{RUN_ID}}&var-task_id={{TASK_ID}}&{_WEEK}",
        },
    ]
