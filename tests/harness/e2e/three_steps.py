"""Overhead of runs of three steps of one second each, with Airflow's operator and with ours."""

import statistics
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from tests.harness.e2e.deployment import Airflow

DEFAULTS, SEPARATE, FUSED = CONTENDERS = ("three_steps_defaults", "three_steps_separate", "three_steps_fused")
"""The DAGs of dags/three_steps.py."""
_MOMENTS = ("scheduled_when", "queued_when", "start_date", "end_date")
WAITS = ("scheduled", "queued", "running")


@dataclass
class Comparison:
    """Seconds of each run by DAG, and of each task's waits; alternating, so that a slow minute is slow for all."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {dag: [] for dag in CONTENDERS})
    waits: dict[str, list[dict[str, float]]] = field(default_factory=lambda: {dag: [] for dag in CONTENDERS})

    def ratio(self, dag: str) -> float:
        """The median of a DAG's runs by that of Airflow's defaults."""
        return round(statistics.median(self.seconds[dag]) / statistics.median(self.seconds[DEFAULTS]), 2)

    def median_wait(self, dag: str, wait: str) -> float:
        """The median of one of WAITS of a DAG's tasks."""
        return statistics.median(task[wait] for task in self.waits[dag])


def compare(airflow: Airflow, runs: int) -> Comparison:
    """Run each DAG so often, in turn."""
    compared = Comparison()
    for number in range(1, runs + 1):
        for dag in CONTENDERS:
            run = airflow.trigger(dag)
            airflow.await_run(dag, run)
            told = next(each for each in airflow.runs(dag) if each["dag_run_id"] == run)
            took = _between(told["queued_at"], told["end_date"])
            print(f"{dag}: {took:.1f} s ({number} of {runs})", flush=True)
            compared.seconds[dag].append(took)
            compared.waits[dag] += [_waits(task) for task in airflow.tasks(dag, run).values()]
    return compared


def _waits(task: dict[str, Any]) -> dict[str, float]:
    moments = pairwise(task[moment] for moment in _MOMENTS)
    return {wait: _between(*two) for wait, two in zip(WAITS, moments, strict=True)}


def _between(begin: str, end: str) -> float:
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds(), 2)
