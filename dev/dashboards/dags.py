"""Dashboard of DAGs and tasks: durations, outcomes, waiting times."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dev.dashboards.board import Rows, choice, dashboard
from dev.dashboards.links import TASK_IN_AIRFLOW, TASK_LOGS, to_airflow
from dev.dashboards.panels import counts, faults, number, rows, series
from dev.dashboards.promql import SHOWN, events, highest, mean, slowest

_DAG = 'dag_id=~"$dag_id"'
_TASK = 'dag_id=~"$dag_id", task_id=~"$task_id"'
_RUNS = "airflow_dagrun_duration_seconds"


def _ends(state: str) -> str:
    return events("airflow_ti_finish", "dag_id, task_id", f'state="{state}", {_TASK}', SHOWN)


_ROWS: Rows = {
    "Now": [
        number("Runs", "DAG runs that are running now.", {"running": "max(airflow_scheduler_dagruns_running)"}),
        number("Tasks running", "Tasks that hold a slot of a pool.", {"running": "sum(airflow_pool_running_slots)"}),
        number(
            "Slots free",
            "Free slots. If zero for long, tasks wait for other tasks, not for pods.",
            {"free": "sum(airflow_pool_open_slots)"},
        ),
        number(
            "Longest in the queue",
            "Longest time that a task has waited for its worker pod. Red: stuck.",
            {"waiting": "max(airflow_task_queued_age_seconds) or vector(0)"},
            unit="s",
            thresholds=[(60, "orange"), (600, "red")],
        ),
        number(
            "Next run overdue",
            "Delay of the most overdue run. Red: late.",
            {"overdue": highest("airflow_dag_overdue_seconds", where=_DAG)},
            unit="s",
            thresholds=[(120, "orange"), (900, "red")],
        ),
        faults(
            "Import errors", "DAG files that cannot be read.", {"files": "max(airflow_dag_processing_import_errors)"}
        ),
    ],
    "Runs": [
        series(
            "Duration of runs",
            "Mean of the runs that ended within an hour, by outcome.",
            {"{{dag_id}} {{state}}": mean(_RUNS, "dag_id, state", _DAG)},
            unit="s",
        ),
        counts(
            "Runs that ended",
            "By outcome, each bar a quarter of an hour.",
            {"{{dag_id}} {{state}}": events(f"{_RUNS}_count", "dag_id, state", _DAG)},
        ),
        series(
            "Delay of scheduled runs",
            "From when a run was due to its start; 95th percentile.",
            {"{{dag_id}}": slowest("airflow_dagrun_schedule_delay_seconds", "dag_id", _DAG)},
            unit="s",
            span=8,
        ),
        series(
            "How overdue the next run is",
            "Zero while the schedule is kept.",
            {"{{dag_id}}": highest("airflow_dag_overdue_seconds", "dag_id", _DAG)},
            unit="s",
            span=8,
            thresholds=[(900, "red")],
        ),
        series(
            "Oldest running run",
            "Age of the oldest unfinished run of a DAG.",
            {"{{dag_id}}": highest("airflow_dag_run_age_seconds", "dag_id", _DAG)},
            unit="s",
            span=8,
        ),
    ],
    "Tasks": [
        rows(
            "Tasks in the time range",
            "Click a row to open the task's lines, or the task in Airflow.",
            {
                "good": _ends("success"),
                "failed": _ends("failed"),
                "retried": _ends("up_for_retry"),
                "mean duration": mean("airflow_task_duration_seconds", "dag_id, task_id", _TASK, SHOWN),
                "95 % queued for less than": slowest(
                    "airflow_task_queued_duration_seconds", "dag_id, task_id", _TASK, SHOWN
                ),
            },
            units={"mean duration": "s", "95 % queued for less than": "s"},
            links=[TASK_LOGS, TASK_IN_AIRFLOW],
        ),
        series(
            "Duration of tasks",
            "95th percentile of the tries within an hour.",
            {"{{dag_id}} {{task_id}}": slowest("airflow_task_duration_seconds", "dag_id, task_id", _TASK)},
            unit="s",
        ),
        series(
            "Time in the queue",
            "From the hand-over to the executor to the start in a worker pod; 95th percentile.",
            {"{{dag_id}} {{task_id}}": slowest("airflow_task_queued_duration_seconds", "dag_id, task_id", _TASK, "1h")},
            unit="s",
        ),
        series(
            "Where the seconds of a task go",
            "Stacked means: waiting for a slot, for a worker, until the step's pod is requested, until its first line,"
            " until its last line, and until its end is noticed.",
            {
                "scheduled": mean("airflow_task_scheduled_duration_seconds", "", _TASK),
                "queued": mean("airflow_task_queued_duration_seconds", "", _TASK),
                "{{phase}}": mean("etl_pod_phase_duration_seconds", "phase", _TASK),
            },
            unit="s",
            span=24,
            stacked=True,
        ),
        counts(
            "How tries ended",
            "Each bar a quarter of an hour; up_for_retry is a failure that is retried.",
            {"{{state}}": events("airflow_ti_finish", "state", _TASK)},
        ),
        counts(
            "Failed tries by task",
            "Each bar a quarter of an hour. A worker that was killed counts where the scheduler noticed.",
            {"{{dag_id}} {{task_id}}": events("airflow_ti_failures", "dag_id, task_id", _TASK)},
        ),
    ],
    "Slots for tasks, and the speed of the scheduler": [
        series(
            "Slots of pools",
            "Use of the pools' slots. Scheduled tasks wait for a slot.",
            {
                "running": "sum(airflow_pool_running_slots)",
                "queued": "sum(airflow_pool_queued_slots)",
                "deferred": "sum(airflow_pool_deferred_slots)",
                "scheduled": "sum(airflow_pool_scheduled_slots)",
                "open": "sum(airflow_pool_open_slots)",
            },
            span=8,
        ),
        series(
            "Scheduler loop",
            "Mean time of one round.",
            {"loop": mean("airflow_scheduler_loop_duration_seconds", over="$__rate_interval")},
            unit="s",
            span=8,
        ),
        series(
            "Reading DAG files",
            "Time the DAG processor needed for all files.",
            {"all files": "max(airflow_dag_processing_total_parse_time)"},
            unit="s",
            span=8,
        ),
    ],
}


def dags() -> Dashboard:
    """Runs and tasks, by DAG and task."""
    board = dashboard(
        "DAGs and tasks", "dags", "How long runs and tasks take and wait, how they end, and which retry.", _ROWS
    )
    board.with_variable(choice("dag_id", "DAG", "label_values(airflow_ti_finish, dag_id)"))
    board.with_variable(choice("task_id", "Task", f"label_values(airflow_ti_finish{{{_DAG}}}, task_id)"))
    return board.link(to_airflow("Airflow", "/dags"))
