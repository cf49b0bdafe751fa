"""Fixture of one pipeline between a source and a sink: run its steps, query and change both databases."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import mssql_python
import psycopg
from etl.config.settings import Settings, read_settings
from etl.config.sink import SinkSettings
from etl.model.outcome import COUNTS
from etl.model.pipeline import Pipeline
from etl.model.window import Partition
from etl.postgres import quoting
from etl.sqlserver import ledger
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.connection import connect as open_sink
from etl.steps.context import StepContext
from etl.steps.extract import extract
from etl.steps.filter import filter_rows
from etl.steps.load import load
from etl.steps.run import run
from pydantic import SecretStr

from dev.sandbox.pipelines import make, whole

MARK = "[etl].[demo]"
"""A table that marks a sink whose data demos and tests may delete."""
STEPS = {"extract": extract, "filter": filter_rows, "load": load}
_COMMANDS = {**STEPS, "run": run}


@dataclass(frozen=True)
class PipelineFixture:
    """One pipeline, its settings, and the URLs of both databases."""

    pipeline: Pipeline
    settings: Settings
    source_url: str
    sink_url: str

    def work(self, run_id: str = "run", partition: Partition | None = None, **changes: Any) -> StepContext:
        """The StepContext of one partition; `changes` override settings."""
        settings = self.settings.model_copy(update=changes)
        partition = partition or whole()
        return StepContext(partition.completed(self.pipeline), run_id, partition, settings)

    def run(self, run_id: str = "run", partition: Partition | None = None, *steps: str) -> dict[str, Any]:
        """Run steps in this process (default: the three; `run` fuses them); returns their results."""
        return {step: _COMMANDS[step](self.work(run_id, partition)) for step in steps or STEPS}

    def command(self, step: str, run_id: str = "run", partition: Partition | None = None) -> list[str]:
        """The command line of a step."""
        options = {"--run-id": run_id, "--partition": (partition or whole()).model_dump_json()}
        arguments = [argument for option in options.items() for argument in option]
        return [sys.executable, "-m", "etl", step, "--pipeline", self.pipeline.model_dump_json(), *arguments]

    def environment(self, **changes: str) -> dict[str, str]:
        """The environment of a command line."""
        urls = {"SOURCE_URL": self.source_url, "SINK_URL": self.sink_url, "STAGING_URL": self.settings.staging_url}
        return os.environ | urls | changes

    def cli(self, step: str, run_id: str = "run", **changes: str) -> "subprocess.CompletedProcess[str]":
        """Run a step as a separate process."""
        command = self.command(step, run_id)
        return subprocess.run(command, env=self.environment(**changes), capture_output=True, text=True, check=False)

    def change(self, statement: str, *parameters: object) -> None:
        """Run a statement in the source."""
        with psycopg.connect(self.source_url, autocommit=True, client_encoding="UTF8") as connection:
            connection.execute(statement.encode(), parameters or None)

    def source_rows(self, condition: str = "true") -> dict[Any, tuple[Any, ...]]:
        """The rows of the source by key; times in UTC without a zone, as in the sink."""
        names = ", ".join(quoting.quote_name(name) for name in self.pipeline.columns)
        query = f"SELECT {names} FROM {quoting.quote_table(self.pipeline.source)} WHERE {condition}"
        with psycopg.connect(
            self.source_url, options="-c timezone=UTC -c datestyle=ISO", client_encoding="UTF8"
        ) as connection:
            return self._by_key(connection.execute(query.encode()).fetchall())

    def sink_exists(self) -> bool:
        """Whether the sink table exists."""
        return self._exists(self._sink)

    def sink_rows(self) -> dict[Any, tuple[Any, ...]]:
        """The rows of the sink by key."""
        names = ", ".join(sink_sql.quote_name(name) for name in self.pipeline.columns)
        return self._by_key(self.query(f"SELECT {names} FROM {self._sink}"))

    def audits(self) -> list[dict[str, Any]]:
        """The audit rows of the pipeline."""
        names = ("run_id", "partition_id", *COUNTS, "checksum")
        columns = ", ".join(sink_sql.quote_name(name) for name in names)
        query = f"SELECT {columns} FROM [etl].[audit] WHERE [pipeline] = ? ORDER BY [run_id], [partition_id]"
        return [dict(zip(names, row, strict=True)) for row in self.query(query, self.pipeline.name)]

    def staging_tables(self) -> list[str]:
        """The staging tables of the pipeline in the sink."""
        rows = self.query("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = ?", sink_sql.STAGING)
        return [name for (name,) in rows if name.startswith(self.pipeline.name)]

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a query in the sink."""
        with connect(self.settings) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(statement, *parameters)
            return [tuple(row) for row in cursor.fetchall()]

    def execute(self, statement: str) -> None:
        """Run a statement in the sink."""
        with connect(self.settings) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(statement)

    def claim(self) -> None:
        """Delete the data of a pipeline under its real name from the sink, and mark the sink.

        Raises RuntimeError if the sink has rows and no earlier demo or test has marked it.
        """
        marked = self._exists(MARK)
        if self.sink_exists() and not marked and self.query(f"SELECT TOP (1) 1 FROM {self._sink}"):
            raise RuntimeError(
                f"The sink already has a table {self.pipeline.sink} with rows, and no demo made them."
                " Let SINK_URL name a database for demos and tests only."
            )
        self.clean()
        if not marked:
            if self.query("SELECT SCHEMA_ID(N'etl')") == [(None,)]:
                self.execute("CREATE SCHEMA [etl]")
            self.execute(f"CREATE TABLE {MARK} ([made_by] nvarchar(40) NOT NULL)")

    def clean(self) -> None:
        """Remove everything of this pipeline from the sink."""
        for name in self.staging_tables():
            self.execute(f"DROP TABLE IF EXISTS [etl_staging].{sink_sql.quote_name(name)}")
        self.execute(f"DROP TABLE IF EXISTS {self._sink}")
        for table in ledger.tables():
            name = sink_sql.quote_table(table.name)
            if self._exists(name):
                self.execute(f"DELETE FROM {name} WHERE [pipeline] = N'{self.pipeline.name}'")

    @property
    def _sink(self) -> str:
        return sink_sql.quote_table(self.pipeline.sink)

    def _exists(self, table: str) -> bool:
        return self.query(f"SELECT OBJECT_ID({sink_sql.quote_text(table)}, N'U')") != [(None,)]

    def _by_key(self, rows: list[tuple[Any, ...]]) -> dict[Any, tuple[Any, ...]]:
        names = list(self.pipeline.columns)
        places = [names.index(name) for name in self.pipeline.key]
        found: dict[Any, tuple[Any, ...]] = {}
        for row in rows:
            values = tuple(value.replace(tzinfo=None) if isinstance(value, datetime) else value for value in row)
            key = tuple(values[place] for place in places)
            assert key not in found, f"{key} is there twice"
            found[key] = values
        return found


@contextmanager
def connect(settings: Settings, *, autocommit: bool = True) -> Iterator[mssql_python.Connection]:
    """A connection to the sink, by default with autocommit."""
    connection = open_sink(settings, settings.sink(), autocommit=autocommit)
    try:
        yield connection
    finally:
        connection.close()


def existing_fixture(
    pipeline: Pipeline, source_url: str, sink_url: str, staging: Path = Path("/proc/none")
) -> PipelineFixture:
    """Fixture of a pipeline under its real name; the environment may have the password of the sink, and its TLS."""
    of_sink = read_settings().model_dump(include=set(SinkSettings.model_fields))
    given = {"source_url": SecretStr(source_url), "sink_url": SecretStr(sink_url), "staging_url": f"file://{staging}"}
    settings = Settings(**of_sink | given)
    return PipelineFixture(pipeline, settings, source_url, sink_url)


@contextmanager
def pipeline_fixture(
    definition: dict[str, Any], source_url: str, sink_url: str, staging: Path, **changes: Any
) -> Iterator[PipelineFixture]:
    """Fixture of a definition under a unique name and sink table, removed from the sink afterwards."""
    name = f"{definition['name']}_{uuid.uuid4().hex[:8]}"
    pipeline = make(definition, **{"name": name, "sink": f"dbo.{name}", **changes})
    made = existing_fixture(pipeline, source_url, sink_url, staging)
    try:
        yield made
    finally:
        made.clean()


def as_json(completed: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    """The log lines of a command."""
    return [json.loads(line) for line in completed.stderr.splitlines()]
