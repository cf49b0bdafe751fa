"""Airflow's DAG processor keeps up with 300 DAG files as `etl new-pipeline` writes them."""

import os
import resource
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from etl.model.pipeline import Pipeline
from etl.new.choose import Choice
from etl.new.write import render

from dev.sandbox.postgres import Postgres, run_postgres
from dev.sandbox.stack import airflow_environment

FILES = 300
ROUND_SECONDS = 120
"""MIN_FILE_PROCESS_INTERVAL of the deployment (k8s/base/airflow/config.env): each file is parsed once in that time."""
SHARE = 0.5
"""Of one core, that the processor may take for it."""
COLUMNS = {f"c{number}": "integer" for number in range(30)} | {"note": "text null", "at": "timestamptz"}


@dataclass
class Processor:
    """A DAG processor with its metadata database, and the files that it has."""

    environment: dict[str, str]
    url: str
    folder: Path

    def add(self, first: int, end: int) -> None:
        for name in (f"t{number}" for number in range(first, end)):
            pipeline = Pipeline.model_validate(
                {"name": name, "source": f"public.{name}", "sink": f"dbo.{name}", "columns": COLUMNS, "key": ["c0"],
                 "version": "at", "filter": "true"}
            )  # fmt: skip
            (self.folder / f"{name}_etl.py").write_text(render(Choice(pipeline), "Europe/Berlin", "x"))

    def parse(self) -> float:
        """Parse every file once; returns the seconds of CPU time that this took."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = ["airflow", "dag-processor", "--num-runs", "1"]
        subprocess.run(command, env=os.environ | self.environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def dags(self) -> int:
        with psycopg.connect(self.url) as connection:
            ((count, errors),) = connection.execute(
                "SELECT (SELECT count(*) FROM dag), (SELECT count(*) FROM import_error)"
            ).fetchall()
        assert errors == 0
        return int(count)


@pytest.fixture
def processor(tmp_path: Path) -> Iterator[Processor]:
    with run_postgres() as postgres:
        yield start(postgres, tmp_path)


def start(postgres: Postgres, folder: Path) -> Processor:
    (folder / "dags").mkdir()
    url = postgres.create_database("airflow")
    environment = airflow_environment(folder, url, "postgresql://x/x", "mssql://x/x")
    environment["AIRFLOW__CORE__DAGS_FOLDER"] = str(folder / "dags")
    subprocess.run(["airflow", "db", "migrate"], env=os.environ | environment, check=True, capture_output=True)
    return Processor(environment, url, folder / "dags")


def test_300_files_take_less_than_half_a_core(processor: Processor) -> None:
    """By CPU time, which other load of the machine changes little: the start, and what each further file takes."""
    processor.add(0, 8)
    few = processor.parse()
    assert processor.dags() == 8
    processor.add(8, 40)
    many = processor.parse()
    assert processor.dags() == 40
    assert (many - few) / 32 * FILES < SHARE * ROUND_SECONDS
