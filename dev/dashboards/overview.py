"""Dashboard of the overview: the state of everything."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.dashboard import DashboardRangeMapOptions as Between
from grafana_foundation_sdk.models.dashboard import RangeMap, ValueMappingResult

from dev.dashboards.board import Rows, dashboard
from dev.dashboards.etl import sink_lag
from dev.dashboards.links import to_dashboard
from dev.dashboards.panels import LOKI, UP, counts, faults, number, rows, series
from dev.dashboards.pods import CONTAINER, MEMORY
from dev.dashboards.promql import a_second, events, events_shown, highest

_ALIVE = [
    RangeMap(Between(from_val=0, to=0.001, result=ValueMappingResult(text="silent", color="red"))),
    RangeMap(Between(from_val=0.001, to=1e9, result=ValueMappingResult(text="alive", color="green"))),
]

_ROWS: Rows = {
    "Now": [
        faults(
            "Alerts",
            "Alerts that fire now; the table below names them.",
            {"firing": 'count(ALERTS{alertstate="firing"}) or vector(0)'},
        ),
        number(
            "Airflow",
            "Whether a heartbeat came within two minutes.",
            {
                "scheduler": "sum(increase(airflow_scheduler_heartbeat[2m])) or vector(0)",
                "DAG processor": "sum(increase(airflow_dag_processor_heartbeat[2m])) or vector(0)",
                "triggerer": "sum(increase(airflow_triggerer_heartbeat[2m])) or vector(0)",
            },
            span=6,
            mappings=_ALIVE,
        ),
        number(
            "Databases",
            "Whether the sink and Airflow's own database answer.",
            {"sink": "max(sink_up)", "metadata": "max(metadata_up)"},
            mappings=UP,
        ),
        sink_lag().data_links([to_dashboard("ETL", "etl")]),
        faults(
            "Failed runs",
            "DAG runs that failed in the time range.",
            {"failed": events_shown("airflow_dagrun_duration_seconds_count", 'state="failed"')},
            span=3,
        ).data_links([to_dashboard("DAGs and tasks", "dags")]),
        faults(
            "Pods not ready",
            "Pods that should run and are not ready. Pods of tasks are not counted.",
            {
                "not ready": 'sum(kube_pod_status_ready{condition="false"} and on (namespace, pod)'
                ' kube_pod_owner{owner_kind=~"ReplicaSet|StatefulSet|DaemonSet"}) or vector(0)'
            },
            span=3,
        ).data_links([to_dashboard("Pods and nodes", "pods")]),
        rows(
            "Alerts that fire",
            "docs/runbooks has a page for each alert: what it means, what to look at first, what to do.",
            {"firing": 'ALERTS{alertstate="firing"}'},
            hide=["__name__", "alertstate", "Value"],
        ),
    ],
    "Lately": [
        counts(
            "DAG runs that ended",
            "By DAG and outcome, each bar a quarter of an hour.",
            {"{{dag_id}} {{state}}": events("airflow_dagrun_duration_seconds_count", "dag_id, state")},
        ),
        counts(
            "Rows that reached the sink",
            "Inserted, updated or unchanged, per quarter of an hour.",
            {"{{pipeline}} {{outcome}}": events("etl_rows_total", "pipeline, outcome", 'step="load"')},
        ),
        series(
            "Memory, where it is closest to its limit",
            "Share of the limit in use, of the five containers that are closest. At 100 % a container is killed.",
            {
                "{{pod}} {{container}}": f"topk(5, {highest('container_memory_working_set_bytes', CONTAINER)}"
                f" / on ({CONTAINER}) {highest('kube_pod_container_resource_limits', CONTAINER, MEMORY)})"
            },
            unit="percentunit",
            thresholds=[(0.9, "red")],
        ),
        series(
            "Task errors",
            "Lines of level error and above in the logs of tasks, in five minutes.",
            {
                "{{dag_id}} {{task_id}}": 'sum by (dag_id, task_id) (count_over_time({job="airflow-task"}'
                ' | json level="level" | level=~"error|critical" [5m]))'
            },
            bars=True,
            source=LOKI,
        ),
    ],
    "Monitoring itself": [
        faults("Targets down", "Targets of Prometheus that do not answer.", {"down": "count(up == 0) or vector(0)"}),
        faults(
            "Lines refused by Loki", "In the time range.", {"refused": events_shown("loki_discarded_samples_total")}
        ),
        faults(
            "Lines lost by Fluent Bit",
            "In the time range.",
            {"lost": events_shown("fluentbit_output_dropped_records_total")},
        ),
        series(
            "Lines that reach Loki",
            "Of tasks, pods and nodes together.",
            {"lines": a_second("loki_distributor_lines_received_total")},
            unit="cps",
        ),
    ],
}


def overview() -> Dashboard:
    """The state of everything at a glance, with links to the dashboards with details."""
    description = "The state of everything. The other dashboards have the details of what is not green."
    return dashboard("Overview", "overview", description, _ROWS)
