"""Policy for every DAG in the folder, written by us or by users."""

import ast
import time
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, CronTriggerTimetable
from airflow.utils.types import DagRunType
from etl_airflow.pods.operator import EtlPodOperator

FOLDER = Path(__file__).resolve().parents[2] / "dags"
FILES = sorted(FOLDER.glob("*.py"))
OF_TESTS = Path(__file__).resolve().parents[1] / "harness" / "e2e" / "dags"


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(str(FOLDER))


@pytest.fixture(params=[path.stem for path in FILES])
def dag(bag: DagBag, request: pytest.FixtureRequest) -> DAG:
    found = bag.dags[request.param]
    assert isinstance(found, DAG)
    return found


def test_every_file_imports_cleanly_and_holds_one_dag(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == [path.stem for path in FILES]


def test_the_dag_files_that_tests_of_a_deployment_add_import_cleanly() -> None:
    assert DagBag(str(OF_TESTS)).import_errors == {}


def test_it_has_an_owner_tags_and_a_page_of_documentation(dag: DAG) -> None:
    assert dag.owner not in ("", "airflow")
    assert "etl" in dag.tags
    assert dag.doc_md
    assert dag.description


def test_it_has_a_cron_schedule_in_a_named_time_zone(dag: DAG) -> None:
    assert isinstance(dag.timetable, CronTriggerTimetable)
    assert len(dag.timetable.expression.split()) == 5
    assert dag.timezone.name != "UTC"
    assert not dag.catchup


def test_it_runs_one_at_a_time_and_not_for_ever(dag: DAG) -> None:
    assert dag.max_active_runs == 1
    assert dag.dagrun_timeout is not None


def test_every_kind_of_run_is_allowed_but_a_backfill(dag: DAG) -> None:
    """Its runs have no window of their own, and would not wait for each other."""
    others = {kind.value for kind in DagRunType} - {"backfill", "asset_triggered"}
    assert {DagRunType(kind).value for kind in dag.allowed_run_types or ()} == others


def test_its_page_says_what_surprises_people(dag: DAG) -> None:
    told = dag.doc_md or ""
    for words in ("Switching the DAG on starts a run", "tasks after `plan` are skipped", "no *Backfill*"):
        assert words in told


def test_what_has_begun_comes_before_what_has_not(dag: DAG) -> None:
    """The tasks that wait for a slot of the pool."""
    assert {task.weight_rule for task in dag.tasks} == {"upstream"}


def test_every_task_retries_with_backoff_and_has_a_time_limit(dag: DAG) -> None:
    for task in dag.tasks:
        assert (task.retries or 0) >= 2, task.task_id
        assert task.retry_exponential_backoff, task.task_id
        assert task.execution_timeout is not None, task.task_id
        assert task.execution_timeout <= timedelta(hours=3), task.task_id


def test_steps_follow_each_other_and_reconcile_comes_last(dag: DAG) -> None:
    after = {task.task_id: task.downstream_task_ids for task in dag.tasks}
    assert after["plan"] >= {"partition.extract", "reconcile"}
    assert after["partition.extract"] == {"partition.filter"}
    assert after["partition.filter"] == {"partition.load"}
    assert after["partition.load"] == {"reconcile"}
    assert after["reconcile"] == set()


def test_steps_are_pods_and_one_partition_can_be_retried_alone(dag: DAG) -> None:
    steps = [task for task in dag.tasks if task.task_id.startswith("partition.")]
    assert len(steps) == 3
    for step in steps:
        assert isinstance(step, EtlPodOperator)
        assert step.get_closest_mapped_task_group() is not None


def test_the_sink_table_is_an_asset_that_others_may_wait_for(dag: DAG) -> None:
    outlets = [asset.name for asset in dag.get_task("reconcile").outlets]
    assert outlets == [f"sink/dbo.{dag.dag_id.removesuffix('_etl')}"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dag_file_only_declares(path: Path) -> None:
    """No call at top level but those that build the pipeline and its DAG: nothing connects, reads or waits."""
    calls = {
        ast.unparse(node.func)
        for statement in ast.parse(path.read_text()).body
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
    }
    assert calls <= {"Pipeline", "pipeline_dag", "pendulum.datetime", "timedelta"}


def test_the_folder_parses_in_under_a_second_of_cpu(bag: DagBag) -> None:
    """Airflow parses again and again, with its own modules loaded; ours are what is counted here."""
    assert bag.dags  # the fixture has loaded Airflow and the providers
    began = time.process_time()
    assert DagBag(str(FOLDER)).import_errors == {}
    assert time.process_time() - began < 1
