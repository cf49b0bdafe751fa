"""Runs of a pipeline as its DAG does them, in this process: plan, the steps of each partition, reconcile."""

from typing import Any

import pytest
from etl.model.window import Partition
from etl_airflow.dag.plan import plan_partitions
from etl_airflow.dag.reconcile import reconcile_run
from etl_airflow.secrets_backend import UrlConnections

from dev.sandbox.pipeline_fixture import PipelineFixture


class Runs:
    """The runs of one site. Airflow's connections `source` and `sink` are the site's until the test ends."""

    def __init__(self, made: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = made
        for variable, value in {"SOURCE_URL": made.source_url, "SINK_URL": made.sink_url}.items():
            monkeypatch.setenv(variable, value)
        for variable in ("SOURCE_PASSWORD", "SINK_PASSWORD"):
            monkeypatch.delenv(variable, raising=False)
        for name in ("source", "sink"):
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", str(UrlConnections().get_conn_value(name)))

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
