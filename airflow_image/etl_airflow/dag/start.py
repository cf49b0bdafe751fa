"""Checks how a run was started: requests that it would ignore are refused."""

import difflib
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk.exceptions import AirflowFailException
from etl.errors import printable

_AWAY = timedelta(hours=1)
"""A logical date farther than this from the time of the run was set on purpose."""
log = logging.getLogger(__name__)


def check_start(run: Any, params: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse requests that the run would ignore. `run` is Airflow's DAG run, `params` its Params, `known` the DAG's.

    Raises AirflowFailException for a backfill, for a key in the conf that is no Param, and for a data interval.
    """
    times = "trigger one run with the Params since and until instead"
    if run.run_type == "backfill":
        raise AirflowFailException(
            f"{run.dag_id} does not run for intervals of its schedule, so a backfill would move nothing: {times}."
        )
    for key in run.conf or {}:
        if key not in known:
            near = difflib.get_close_matches(str(key).lower(), known, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise AirflowFailException(
                f"{run.dag_id} has no Param {printable(key)}, which the conf of this run gives.{meant}"
                f" There are {', '.join(known)}."
            )
    if ignored := [key for key, value in (run.conf or {}).items() if params[key] != value]:
        raise AirflowFailException(
            f"Airflow ignores {', '.join(ignored)} in the conf of this run: set [core] dag_run_conf_overrides_params."
        )
    begin, end = run.data_interval_start, run.data_interval_end
    if begin and end and begin < end:
        raise AirflowFailException(
            f"This run was given the data interval from {begin} to {end}, but {run.dag_id} reads what changed after the"
            f" watermark: {times}."
        )
    if run.run_type == "manual" and run.logical_date and abs(run.run_after - run.logical_date) > _AWAY:
        log.warning("The logical date %s names this run and chooses no rows; Params do.", run.logical_date)
