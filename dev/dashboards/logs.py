"""Dashboard of logs: the lines of a run, from all sources."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dev.dashboards.board import Rows, choice_of_lines, dashboard, text
from dev.dashboards.links import RUN_IN_AIRFLOW, RUN_LOGS, to_airflow
from dev.dashboards.panels import LOKI, lines, rows, series

_TASKS = '{job="airflow-task", dag_id=~"$dag_id", task_id=~"$task_id"}'
# Both are needed: a run's id may have characters with a meaning in regular expressions, and `.+` selects all runs.
_RUN = '| run_id="$run_id" or run_id=~"$run_id"'
_TEXT = '|= "$text"'

_ROWS: Rows = {
    "Runs": [
        rows(
            "Runs that wrote lines, in the time range",
            "Click to select a run, or to open it in Airflow.",
            {"lines": f'sum by (dag_id, run_id) (count_over_time({_TASKS} | run_id != "" [$__range]))'},
            span=12,
            source=LOKI,
            links=[RUN_LOGS, RUN_IN_AIRFLOW],
        ),
        series(
            "Lines of tasks by level",
            "Of the chosen run.",
            {"{{level}}": f'sum by (level) (count_over_time({_TASKS} {_RUN} | json level="level" [$__interval]))'},
            bars=True,
            stacked=True,
            source=LOKI,
        ),
    ],
    "Lines": [
        lines(
            "Tasks and their steps, and pods",
            "All lines with the run's id, by time. Steps' lines are in their task's log.",
            {"tasks": f"{_TASKS} {_RUN} {_TEXT}", "pods": f'{{job="pods"}} {_RUN} {_TEXT}'},
        ),
        lines(
            "Other lines with the run's id",
            "Lines of pods with the run's id in their text: scheduler, API server, databases. Choose a run first.",
            {"pods": f'{{job="pods"}} |= "$run_id" {_TEXT}'},
            height=10,
        ),
        lines(
            "Warnings and errors of pods",
            "Whatever the run.",
            {"pods": f'{{job="pods"}} |~ "(?i)(warn|error|critical|fatal|traceback|exception)" {_TEXT}'},
            height=10,
        ),
        lines("Nodes", "Journals of the nodes.", {"nodes": f'{{job="node"}} {_TEXT}'}, height=10),
    ],
}


def logs() -> Dashboard:
    """Lines by run, of tasks, steps, pods, Airflow's components and nodes."""
    board = dashboard("Logs", "logs", "Lines of a run from tasks, steps, databases, Airflow and nodes.", _ROWS)
    board.with_variable(choice_of_lines("dag_id", "DAG", '{job="airflow-task"}'))
    board.with_variable(choice_of_lines("task_id", "Task", '{job="airflow-task", dag_id=~"$dag_id"}'))
    board.with_variable(text("run_id", "Run", ".+", "The id of one run; .+ is every run."))
    board.with_variable(text("text", "Text", "", "Only lines that contain this text."))
    return board.link(to_airflow("This run in Airflow", "/dags/${dag_id}/runs/${run_id:percentencode}"))
