"""Each way to start a run does what was asked for, or is refused with what to do instead."""

import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk.exceptions import AirflowFailException
from etl_airflow.dag.factory import params_of
from etl_airflow.dag.reconcile import reconcile_run
from etl_airflow.dag.start import check_start
from hypothesis import given
from hypothesis import strategies as st

from dev.sandbox.pipelines import ORDERS, make

PARAMS = params_of(make(ORDERS))
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
INSTEAD = "trigger one run with the Params since and until instead"


def start(run_type: str = "manual", conf: Any = None, *, overrides: bool = True, **facts: Any) -> None:
    """Start a run as Airflow describes it to its tasks; `overrides`: its conf overrides the Params, as by default."""
    params: dict[str, Any] = {name: param.value for name, param in PARAMS.items()}
    params |= (conf or {}) if overrides else {}
    none = {"logical_date": None, "data_interval_start": None, "data_interval_end": None, "run_after": NOW}
    run = SimpleNamespace(dag_id="orders_etl", run_type=run_type, conf=conf, **none | facts)
    check_start(run, params, PARAMS)


@pytest.mark.parametrize("run_type", ["manual", "scheduled", "operator_triggered", "asset_materialization"])
@pytest.mark.parametrize("conf", [None, {}])
def test_a_run_without_params_starts_however_it_was_triggered(run_type: str, conf: Any) -> None:
    start(run_type, conf)


@pytest.mark.parametrize("run_type", ["manual", "operator_triggered"])
def test_every_param_may_be_in_the_conf(run_type: str) -> None:
    start(run_type, {name: param.value for name, param in PARAMS.items()})


def test_an_interval_without_length_as_a_cron_schedule_gives_it_is_no_request() -> None:
    start("scheduled", logical_date=NOW, data_interval_start=NOW, data_interval_end=NOW)


@pytest.mark.parametrize(
    ("key", "near"),
    [("ful_refresh", "full_refresh"), ("Full_Refresh", "full_refresh"), ("from", None), ("Since", "since"), ("", None)],
)
def test_a_key_that_is_no_param_is_refused_with_those_that_are(key: str, near: str | None) -> None:
    with pytest.raises(AirflowFailException) as caught:
        start(conf={"full_refresh": True, key: True})
    told = str(caught.value)
    assert f"orders_etl has no Param {key}, which the conf of this run gives." in told
    assert told.endswith(f"There are {', '.join(PARAMS)}.")
    assert ("Did you mean" in told) == (near is not None)
    assert near is None or f"Did you mean {near}?" in told


@given(conf=st.dictionaries(st.sampled_from(list(PARAMS)) | st.text(), st.none() | st.booleans() | st.text()))
def test_no_conf_is_ignored_in_part(conf: dict[str, Any]) -> None:
    if set(conf) <= set(PARAMS):
        start(conf=conf)
        return
    with pytest.raises(AirflowFailException, match="has no Param"):
        start(conf=conf)


def test_a_conf_that_airflow_is_set_to_ignore_is_refused() -> None:
    start(conf={"full_refresh": False, "since": None}, overrides=False)
    with pytest.raises(AirflowFailException, match="ignores since in the conf of this run"):
        start(conf={"full_refresh": False, "since": "2026-01-01T00:00:00Z"}, overrides=False)


@pytest.mark.parametrize("conf", [None, {"since": "2026-01-01T00:00:00Z"}])
def test_a_backfill_is_refused_whatever_it_is_given(conf: Any) -> None:
    """Airflow refuses to make one; this is for runs that an earlier version made, and that are cleared."""
    with pytest.raises(AirflowFailException, match=INSTEAD):
        start("backfill", conf, data_interval_start=NOW, data_interval_end=NOW)


def test_a_data_interval_that_was_given_is_refused() -> None:
    with pytest.raises(AirflowFailException, match=INSTEAD):
        start(logical_date=NOW, data_interval_start=NOW - timedelta(days=1), data_interval_end=NOW)


@pytest.mark.parametrize(
    ("ago", "warns"), [(timedelta(0), False), (timedelta(days=30), True), (-timedelta(days=1), True)]
)
def test_a_logical_date_of_another_day_is_said_to_choose_no_rows(
    caplog: pytest.LogCaptureFixture, ago: timedelta, warns: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        start(logical_date=NOW - ago)
    assert ("chooses no rows" in caplog.text) == warns


def test_a_cleared_run_that_finds_nothing_new_skips_its_reconciliation() -> None:
    """Airflow removes the steps of the plan before, and so runs what follows them, with no partition."""
    with pytest.raises(AirflowSkipException, match="nothing to reconcile"):
        reconcile_run(make(ORDERS), "cleared", [], "sink")
