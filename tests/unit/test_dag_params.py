"""The Params and the documentation of a DAG are those of its pipeline's mode, and of what it deletes."""

from typing import Any

import pendulum
import pytest
from etl.errors import ConfigurationError
from etl_airflow.dag.factory import pipeline_dag
from etl_airflow.dag.plan import check_deletes

from dev.sandbox.pipelines import ORDERS, make

OF_WINDOWS = {"full_refresh", "since", "until", "accept_older_versions"}


@pytest.mark.parametrize(
    ("changes", "params", "words"),
    [
        ({}, OF_WINDOWS, "the newer `updated_at` wins"),
        ({"deletes": "mark"}, OF_WINDOWS | {"accept_deletes"}, "marked in `deleted_at` when they are gone"),
        ({"mode": "replace", "version": None}, {"full_refresh"}, "rows of the same `order_id` are compared"),
        (
            {"mode": "replace", "version": None, "key": [], "deletes": "delete"},
            {"full_refresh", "accept_deletes"},
            "they have no key, so all are exchanged",
        ),
    ],
    ids=["incremental", "marking", "replaced", "without a key"],
)
def test_a_dag_offers_what_its_pipeline_can_do(changes: dict[str, Any], params: set[str], words: str) -> None:
    pipeline = make(ORDERS, **changes)
    dag = pipeline_dag(pipeline, schedule="@daily", start_date=pendulum.datetime(2026, 1, 1), owner="data")
    assert set(dag.params) == params
    assert words in str(dag.doc_md)


def test_deletes_are_not_accepted_for_a_pipeline_that_keeps_all_rows() -> None:
    with pytest.raises(ConfigurationError, match=r"deletes is keep"):
        check_deletes(make(ORDERS), {"accept_deletes": True})
    check_deletes(make(ORDERS, deletes="mark"), {"accept_deletes": True})
