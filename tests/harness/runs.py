"""Runs of a pipeline as its DAG does them, in this process: plan, the steps of each partition, reconcile."""

from typing import Any

import pytest
from etl.model.window import Partition
from etl_airflow.dag.plan import plan_partitions
from etl_airflow.dag.reconcile import reconcile_run

from dev.sandbox.pipeline_fixture import PipelineFixture
from tests.harness.airflow.connections import airflow_has


class Runs:
    """The runs of one site. Airflow's connections `source` and `sink` are the site's until the test ends."""

    def __init__(self, made: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = made
        for variable in ("SOURCE_PASSWORD", "SINK_PASSWORD"):
            monkeypatch.delenv(variable, raising=False)
        airflow_has(monkeypatch, "source", SOURCE_URL=made.source_url)
        airflow_has(monkeypatch, "sink", SINK_URL=made.sink_url)

    def plan(self, **params: Any) -> list[str]:
        """The partitions of a run with these Params."""
        return plan_partitions(self.made.pipeline, params, "source", "sink")

    def steps(self, run_id: str, partitions: list[str], *steps: str) -> None:
        """Bring partitions through."""
        for partition in partitions:
            self.made.run(run_id, Partition.model_validate_json(partition), *steps)

    def reconcile(self, run_id: str, partitions: list[str]) -> dict[str, Any]:
        """Check a run, and move the watermark; returns its totals."""
        return reconcile_run(self.made.pipeline, run_id, partitions, "sink")

    def run(self, run_id: str, **params: Any) -> dict[str, Any]:
        """A whole run."""
        partitions = self.plan(**params)
        self.steps(run_id, partitions)
        return self.reconcile(run_id, partitions)

    def watermark(self) -> Any:
        """The watermark, in UTC without a zone."""
        query = "SELECT [value] FROM [etl].[watermark] WHERE [pipeline] = ?"
        return self.made.query(query, self.made.pipeline.name)[0][0]
