"""The DAG of a pipeline: plan → for each partition extract → filter → load, or `run` → reconcile."""

from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pendulum
from airflow.providers.cncf.kubernetes.kube_client import get_kube_client
from airflow.sdk import DAG, Asset, Param, get_current_context, task, task_group
from etl.model.pipeline import Pipeline
from etl.model.version_kind import Kind

from etl_airflow.dag.verify_dag import verify_dag
from etl_airflow.pods import last_line
from etl_airflow.pods.operator import EtlPodOperator, runs_steps_as_processes

SOURCE, SINK = "source", "sink"
"""The Airflow connections of `plan` and `reconcile`."""
_FULL_REFRESH = Param(
    False,
    type="boolean",
    title="Full refresh",
    description="Read the whole table again, and write what differs in the sink.",
)
_WINDOWS: dict[Kind, tuple[dict[str, Any], str, str]] = {
    "time": (
        {"type": ["null", "string"], "format": "date-time"},
        "Read the versions after this time instead of those after the watermark.",
        "Read the versions up to and with this time instead of up to now.",
    ),
    "day": (
        {"type": ["null", "string"], "format": "date"},
        "Read the days from this one on instead of those after the watermark.",
        "Read the days up to and with this one instead of up to today.",
    ),
    "number": (
        {"type": ["null", "integer"]},
        "Read the numbers after this one instead of those after the watermark.",
        "Read the numbers up to and with this one instead of up to the highest.",
    ),
}
"""By the kind of version: the schema of Since and Until in JSON, and what they do."""
_ACCEPT_OLDER = Param(
    False,
    type="boolean",
    title="Accept older versions",
    description="With Full refresh or Since: take the source's rows as they are, also where the sink's are newer,"
    " after the source was restored from a backup or its clock was put back.",
)
_ACCEPT_DELETES = Param(
    False,
    type="boolean",
    title="Accept deletes",
    description="Delete or mark the rows that are gone at the source, however many they are.",
)

_KINDS_OF_RUN: Any = ("scheduled", "manual", "operator_triggered", "asset_materialization")
"""All but `backfill`: a backfill run reads no window for its interval, and max_active_runs does not limit it."""
_LONGEST_TAG = 100  # Airflow's limit
_STEPS = {"separate": ("extract", "filter", "load"), "fused": ("run",)}
_OF_TASKS: Any = {
    "on_failure_callback": last_line.say_why,
    "on_retry_callback": last_line.say_why,
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(hours=3),
    # When tasks wait for slots, runs in progress come before new ones. With the default, which is the opposite,
    # the plans of all runs come first, and no run ends for a long time.
    "weight_rule": "upstream",
}


def params_of(pipeline: Pipeline) -> dict[str, Param]:
    """The Params of a pipeline's runs."""
    found = {"full_refresh": _FULL_REFRESH}
    if pipeline.version and not pipeline.is_log:
        schema, since, until = _WINDOWS[pipeline.version_kind]
        found |= {
            "since": Param(None, title="Since", description=since, **schema),
            "until": Param(None, title="Until", description=until, **schema),
            "accept_older_versions": _ACCEPT_OLDER,
        }
    return found if pipeline.deletes == "keep" else {**found, "accept_deletes": _ACCEPT_DELETES}


def pipeline_dag(
    pipeline: Pipeline, *, schedule: str, start_date: pendulum.DateTime, owner: str, verify: bool = False
) -> DAG:
    """The DAG `<name>_etl`. `schedule` is a cron expression in the time zone of `start_date`.

    `verify`: also makes the DAG `<name>_verify`, which Airflow registers, too.
    """
    default_args = {"owner": owner, **_OF_TASKS}
    if verify:
        if pipeline.is_log:
            raise ValueError(
                f"verify: {pipeline.name} reads the source's log, and cannot be verified yet; leave it away"
            )
        verify_dag(pipeline, start_date=start_date, default_args=default_args)
    params = params_of(pipeline)
    with DAG(
        dag_id=f"{pipeline.name}_etl",
        description=f"{pipeline.source} → {pipeline.sink} where {pipeline.filter}",
        doc_md=_doc(pipeline),
        schedule=schedule,
        start_date=start_date,
        catchup=False,
        # One run at a time: two windows of one pipeline never overtake each other.
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=12),
        tags=["etl", *(str(table)[:_LONGEST_TAG] for table in (pipeline.source, pipeline.sink))],
        params=params,
        allowed_run_types=_KINDS_OF_RUN,
        default_args=default_args,
    ) as dag:

        @task(show_return_value_in_logs=False)
        def plan() -> list[str]:
            """Choose the window and cut it into partitions by key; delete orphaned pods of ended runs."""
            from etl_airflow.dag.plan import plan_partitions
            from etl_airflow.dag.start import check_start
            from etl_airflow.pods.orphans import delete_orphans

            context = get_current_context()
            check_start(context["dag_run"], context["params"], params)
            if not runs_steps_as_processes():
                dag_id, get_state = context["ti"].dag_id, context["ti"].get_dagrun_state
                delete_orphans(get_kube_client(), dag_id, context["run_id"], partial(get_state, dag_id))
            return plan_partitions(pipeline, dict(context["params"]), SOURCE, SINK)

        @task_group
        def partition(partition: Any) -> None:
            """Extract, filter and load one partition; it can be retried alone."""
            steps = [EtlPodOperator.for_step(step, pipeline, partition) for step in _STEPS[pipeline.steps]]
            for earlier, later in pairwise(steps):
                earlier >> later

        # Names of assets are ASCII in Airflow.
        @task(outlets=[Asset(f"sink/{quote(str(pipeline.sink))}")], show_return_value_in_logs=False)
        def reconcile(partitions: list[str]) -> dict[str, Any]:
            """Check that everything adds up, then advance the watermark."""
            from etl_airflow.dag.reconcile import reconcile_run

            return reconcile_run(pipeline, get_current_context()["run_id"], partitions, SINK, SOURCE)

        partitions: Any = plan()
        partition.expand(partition=partitions) >> reconcile(partitions)
    return dag


def _reach(pipeline: Pipeline) -> str:
    return f"{pipeline.reach} numbers" if pipeline.version_kind == "number" else str(pipeline.reach)


def _doc(pipeline: Pipeline) -> str:
    """The pipeline's documentation in Airflow's UI."""
    rows = (f"| `{name}` | {column} | {column.tsql} |" for name, column in pipeline.types.items())
    columns = "\n".join(rows)
    sensitive = ", ".join(f"`{name}`" for name in pipeline.sensitive)
    masked = f"\n* Values of {sensitive} are sensitive: logs and rejects show masks of them." if sensitive else ""
    return f"""Rows of `{pipeline.source}` for which `{pipeline.filter}` go to `{pipeline.sink}`.

* They {_ending(pipeline)}.
{_reading(pipeline)}{_following(pipeline)}
* {pipeline.tolerated_rejects} rows of a run may break the type rules below; with more the run fails.
* A failed partition is retried alone: clear its `{_STEPS[pipeline.steps][0]}`, with what follows.
* Switching the DAG on starts a run of the schedule at once. The first one takes all rows, and a run that was triggered
  meanwhile waits for it and may find nothing left.
* Where nothing changed and no keys are compared, the tasks after `plan` are skipped; the end of its log says
  so.{masked}

| column | source | sink |
|---|---|---|
{columns}
"""


def _ending(pipeline: Pipeline) -> str:
    """The fate of rows that the source has deleted."""
    if pipeline.deletes == "keep":
        return "stay there"
    verb = "deleted" if pipeline.deletes == "delete" else f"marked in `{pipeline.mark_column}`"
    return (
        f"are {verb} when they are gone at the source; a loss of more than {pipeline.most_deleted:.0%} only if the run"
        " accepts it"
    )


def _reading(pipeline: Pipeline) -> str:
    """The rows that a run reads."""
    key = ", ".join(pipeline.key)
    if pipeline.is_log:
        return f"""* A row is known by `{key}`. A run reads each change after the last one from the source's
  write-ahead log (slot `{pipeline.slot_name}`, publication `{pipeline.publication_name}`): each is judged,
  and the last kept one of a row counts.
* `full_refresh` reads the whole table again, and goes on from there."""
    if pipeline.version is None:
        how = f"rows of the same `{key}` are compared" if key else "they have no key, so all are exchanged"
        return f"* A run reads the whole table, and changes in one transaction what differs in the sink: {how}."
    also = _comparing(pipeline)
    return f"""* A row is known by `{key}`; the newer `{pipeline.version}` wins.
* A run reads what changed after the watermark, and {_reach(pipeline)} behind it again for late commits.{also}
* A time in the past is read again with `since` and `until` (*Trigger*, *Single Run*). There is no *Backfill*."""


def _following(pipeline: Pipeline) -> str:
    """The fate of columns that the table below does not have."""
    if pipeline.on_new_source_column != "add":
        return ""
    omitted = f", but for {', '.join(f'`{name}`' for name in pipeline.omit)}" if pipeline.omit else ""
    return f"\n* Columns of the source that are not listed below are added to the sink{omitted}."


def _comparing(pipeline: Pipeline) -> str:
    """The runs that read the keys of all rows."""
    if pipeline.deletes == "keep":
        return ""
    runs = pipeline.comparing_runs
    return (
        f"\n* {runs[0].upper()}{runs[1:]} also reads the keys of all rows, to find those that are gone at the source."
    )
