"""Whole schemas by `etl new-pipeline '*.*'` and one run each: the sink is the source, also after 1,000 changes.

The schemas are our own, in the shapes of sample databases that people know. `make schemas SCHEMAS=FOLDER` tries each
.sql file there instead, such as a dump that you have; tables that are empty in it get rows made at random.
"""

import contextlib
import io
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.arguments import read_dag
from etl.config.settings import Settings
from etl.errors import EtlError
from etl.new.choose import Wishes
from etl.new.command import Target, new_pipelines
from pydantic import SecretStr

from dev.sandbox.pipeline_fixture import PipelineFixture, existing_fixture
from dev.sandbox.postgres import Postgres, run_postgres
from tests.harness.fixtures import full_postgres_binaries
from tests.harness.runs import Runs
from tests.harness.schemas.comparison import difference
from tests.harness.schemas.dumps import Dump, restored
from tests.harness.schemas.random_rows import change, fill

OURS = Path(__file__).resolve().parents[1] / "schemas"
FILES = sorted(Path(os.environ.get("SCHEMAS") or OURS).glob("*.sql"))
ARE_OURS = not os.environ.get("SCHEMAS")
CHANGES = 1000
SEED = int(os.environ.get("SEED") or 7)


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A server for dumps, which drop and create databases: never that of SOURCE_URL."""
    with run_postgres() as server:
        yield server


@pytest.fixture(params=FILES, ids=[path.stem for path in FILES])
def dump(request: pytest.FixtureRequest, own_postgres: Postgres) -> Iterator[Dump]:
    """A restored dump: on the server that restores it with fewer errors, if there is another one with extensions."""
    with ExitStack() as stack:
        found = stack.enter_context(restored(own_postgres, request.param))
        if found.errors and full_postgres_binaries():
            other = stack.enter_context(restored(request.getfixturevalue("full_postgres"), request.param))
            found = min(found, other, key=lambda each: len(each.errors))
        yield found


@dataclass
class Trial:
    """The pipelines of a schema, and the problems that they had: a table, and a sentence."""

    sites: list[PipelineFixture]
    problems: list[str] = field(default_factory=list)
    accepted: int = 0
    """Runs that had to be told that most rows of a table are gone."""

    def run(self, run_id: str, monkeypatch: pytest.MonkeyPatch) -> float:
        """Run each pipeline once, and compare its table; returns the seconds of the runs."""
        took = 0.0
        for made in self.sites:
            runs = Runs(made, monkeypatch)
            began = time.monotonic()
            try:
                self._run(runs, run_id)
                took += time.monotonic() - began
                found = difference(made)
            except (EtlError, AirflowFailException) as error:
                found = str(error)
            if found:
                self.problems.append(f"{made.pipeline.source}, {run_id}: {found}")
        return took

    def _run(self, runs: Runs, run_id: str) -> None:
        steps = ["run"] if runs.made.pipeline.steps == "fused" else []
        partitions = runs.plan()
        try:
            runs.steps(run_id, partitions, *steps)
        except EtlError as error:
            if "run with accept_deletes" not in str(error):
                raise
            # A small view can lose most of its rows by one change of a table.
            self.accepted += 1
            run_id, partitions = f"{run_id} accepted", runs.plan(accept_deletes=True)
            runs.steps(run_id, partitions, *steps)
        if partitions:
            assert runs.reconcile(run_id, partitions)["verdict"] == "adds up"


def written(url: str, folder: Path, schema: str, sink_url: str) -> Trial:
    """The pipelines that the command writes for all schemas of a database; what it refuses is a problem."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        target = Target(str(folder), "Europe/Berlin", "data-platform", sink_schema=schema)
        new_pipelines(Settings(source_url=SecretStr(url)), ["*.*"], [], Wishes(), target)
    lines = told.getvalue().splitlines()
    refused = [f"{line}: {lines[at + 1].strip()}" for at, line in enumerate(lines) if line.startswith("refused")]
    pipelines = [pipeline for path in sorted(folder.glob("*_etl.py")) for pipeline in read_dag(path)]
    return Trial([existing_fixture(pipeline, url, sink_url, folder / "staging") for pipeline in pipelines], refused)


def test_a_whole_schema_is_equal_in_the_sink_and_again_after_1000_changes(
    dump: Dump, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Tables of one name in two schemas, or of a test beside this one, have sinks of their own.
    schema = f"s_{uuid.uuid4().hex[:8]}"
    made_up = fill(dump.url, SEED)
    trial = written(dump.url, tmp_path, schema, sink_url)
    trial.sites[0].execute(f"CREATE SCHEMA [{schema}]")
    try:
        first = trial.run("first", monkeypatch)
        rows = sum(audit["inserted"] for made in trial.sites for audit in made.audits())
        versions = {
            (made.pipeline.source.schema_name, made.pipeline.source.table): made.pipeline.version
            for made in trial.sites
        }  # fmt: skip
        done = change(dump.url, versions, CHANGES, SEED)
        second = trial.run("second", monkeypatch)
        with capsys.disabled():
            print(f"\n{dump.name}: {summary(trial, rows, made_up, done)}; runs took {first:.1f} s and {second:.1f} s.")
            print(*(f"  when restored: {line[:200]}" for line in dump.errors[:5]), sep="\n", end="")
        assert trial.problems == [], "\n".join(trial.problems)
        assert done.total() >= CHANGES, f"the schema allowed {done.total()} of {CHANGES} changes"
        assert not ARE_OURS or (set(done) == {"updated", "inserted", "deleted", "key"} and not dump.errors)
    finally:
        for made in trial.sites:
            made.clean()
        trial.sites[0].execute(f"DROP SCHEMA [{schema}]")


def summary(trial: Trial, rows: int, made_up: int, done: Counter[str]) -> str:
    pipelines = [made.pipeline for made in trial.sites]
    modes = Counter[str](pipeline.mode for pipeline in pipelines)
    columns = sum(len(pipeline.columns) for pipeline in pipelines)
    return (
        f"{len(pipelines)} tables and views ({listed(modes)}), {columns} columns, {rows:,} rows ({made_up:,} made up);"
        f" {listed(done)}; {trial.accepted} runs with accept_deletes; {len(trial.problems)} problems"
    )


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
