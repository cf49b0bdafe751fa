"""`make demo` with SOURCE_URL: DAGs for your own tables, each run once.

TABLES names them, as for `etl new-pipeline`; the default is `public.*`. The source is only read. The sink is the SQL
Server of SINK_URL, in which the tables stay, else a double of SQL Server.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from etl.arguments import read_dag
from etl.config.settings import redacted_location
from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.sqlserver import sql as sink_sql
from pydantic import SecretStr
from rich.console import Console
from rich.table import Column, Table

from dev.sandbox.pipeline_fixture import PipelineFixture, existing_fixture
from dev.sandbox.stack import Stack, run_stack

EVERYTHING = "public.*"
MADE = TableName(schema_name="etl", table="demo_tables")
"""A table that names the sink tables which demos have made in a database of yours."""
_MADE = sink_sql.quote_table(MADE)
COUNTS = ("extracted", "rejected", "inserted", "updated")


def move_own_tables(console: Console, folder: Path, source_url: str) -> bool:
    """Write DAGs for the tables of TABLES, run each once, and print a table of the results; whether all ended well."""
    dags = folder / "dags"
    dags.mkdir()
    with run_stack(folder, source_url, dags) as stack:
        pipelines = _write_dags(stack, dags)
        if not pipelines or not _is_agreed(console, stack, pipelines):
            return False
        stack.run("airflow", "db", "migrate", quiet=True)
        results = Table(Column("table", overflow="fold"), title="Postgres → SQL Server")
        for name in ("state", *COUNTS, "seconds"):
            results.add_column(name, no_wrap=True)
        well = True
        for number, pipeline in enumerate(pipelines, 1):
            console.print(f"{number}/{len(pipelines)} {pipeline.source} → {pipeline.sink} …", markup=False)
            began = time.monotonic()
            run = stack.run_dag(f"{pipeline.name}_etl", retry=False)
            console.print(*run["why"], sep="\n", end="\n" if run["why"] else "", markup=False, style="red")
            well &= run["state"] == "success"
            counts = _counts(stack, pipeline, run["run_id"])
            results.add_row(str(pipeline.sink), run["state"], *counts, f"{time.monotonic() - began:.1f}")
        console.print(results)
        _say_what_is_next(console, stack)
    return well


def _write_dags(stack: Stack, dags: Path) -> list[Pipeline]:
    tables = (os.environ.get("TABLES") or EVERYTHING).split()
    command = [sys.executable, "-m", "etl", "new-pipeline", *tables, "--to", str(dags)]
    subprocess.run(command, env=os.environ | stack.environment, check=False)
    return [pipeline for path in sorted(dags.glob("*.py")) for pipeline in read_dag(path)]


def _is_agreed(console: Console, stack: Stack, pipelines: list[Pipeline]) -> bool:
    """Print what will be read and written, and ask; without a terminal YES=1 agrees.

    False at once if tables of the sink have rows that no demo made: runs would change or delete them.
    """
    console.print(f"Source: {redacted_location(SecretStr(stack.source_url))}, which is only read.")
    if stack.sink_is_double:
        console.print("Sink:   a double of SQL Server, removed afterwards; SINK_URL names a SQL Server.")
        return True
    sites = [existing_fixture(pipeline, stack.source_url, stack.sink_url) for pipeline in pipelines]
    if taken := [str(site.pipeline.sink) for site in sites if _has_rows_of_another(site)]:
        console.print(
            f"There are rows already in {', '.join(taken)}, and no demo made them: they would be changed, or deleted"
            " where the source does not have them. Let SINK_URL name another database, or leave these tables out of"
            " TABLES.",
            style="bold red", markup=False, soft_wrap=True,
        )  # fmt: skip
        return False
    schemas = {site.pipeline.sink.schema_name for site in sites if not _has_schema(site)}
    console.print(
        f"Sink:   {redacted_location(SecretStr(stack.sink_url))}, which will get the schemas"
        f" {_listed(['etl', 'etl_staging', *sorted(schemas)])},", markup=False, soft_wrap=True,
    )  # fmt: skip
    names = ", ".join(str(pipeline.sink) for pipeline in pipelines)
    console.print(f"        and the tables {names}. They stay.", markup=False, soft_wrap=True)
    if not os.environ.get("YES"):
        if not sys.stdin.isatty():
            console.print("Nothing was changed. Run it with YES=1 to go on.", style="bold red")
            return False
        if console.input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
            return False
    for site in sites:
        _mark(site)
    return True


def _has_rows_of_another(site: PipelineFixture) -> bool:
    """Whether the sink table has rows, and no demo has made it."""
    table = site.pipeline.sink
    if not site.query(sink_sql.find_columns(table)) or not site.query(sink_sql.any_row(table)):
        return False
    return not _is_marked(site)


def _has_schema(site: PipelineFixture) -> bool:
    return site.query(f"SELECT SCHEMA_ID({sink_sql.quote_text(site.pipeline.sink.schema_name)})") != [(None,)]


def _is_marked(site: PipelineFixture) -> bool:
    if not site.query(sink_sql.find_columns(MADE)):
        return False
    return bool(site.query(f"SELECT 1 FROM {_MADE} WHERE [name] = ?", str(site.pipeline.sink)))


def _mark(site: PipelineFixture) -> None:
    """Record that a demo makes the sink table: the next demo may write to it, too."""
    if _is_marked(site):
        return
    if site.query("SELECT SCHEMA_ID(N'etl')") == [(None,)]:
        site.execute("CREATE SCHEMA [etl]")
    if not site.query(sink_sql.find_columns(MADE)):
        site.execute(f"CREATE TABLE {_MADE} ([name] nvarchar(300) NOT NULL)")
    site.execute(f"INSERT INTO {_MADE} ([name]) VALUES ({sink_sql.quote_text(str(site.pipeline.sink))})")


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _counts(stack: Stack, pipeline: Pipeline, run_id: str) -> list[str]:
    site = existing_fixture(pipeline, stack.source_url, stack.sink_url)
    audits = [audit for audit in site.audits() if audit["run_id"] == run_id]
    return [f"{sum(audit[count] for audit in audits):,}" for count in COUNTS]


def _say_what_is_next(console: Console, stack: Stack) -> None:
    if stack.sink_is_double:
        console.print("Next: with SINK_URL=mssql://… as well, the tables are in a SQL Server of yours.", soft_wrap=True)
    console.print(
        "Next: `.venv/bin/etl new-pipeline` writes DAGs into dags/ to keep; `make dev` shows them in Airflow's UI.",
        soft_wrap=True,
    )
