"""Links to Grafana in Airflow's UI: in the menu, and as tabs of a DAG, a run and a task, filtered by their ids.

Grafana is at /grafana of the same host. The time range is a week.
"""

from airflow.plugins_manager import AirflowPlugin

_WEEK = "from=now-7d&to=now&kiosk"


class GrafanaPlugin(AirflowPlugin):
    """Airflow replaces the names in braces by the ids of the open page."""

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
