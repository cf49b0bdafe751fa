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
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from dev.sandbox.pipeline_fixture import existing_fixture
from dev.sandbox.stack import Stack, run_stack

EVERYTHING = "public.*"
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
        results = Table("table", "state", *COUNTS, "seconds", title="Postgres → SQL Server")
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
    """Print what will be read and written, and ask; without a terminal YES=1 agrees."""
    console.print(f"Source: {redacted_location(SecretStr(stack.source_url))}, which is only read.")
    names = ", ".join(str(pipeline.sink) for pipeline in pipelines)
    if stack.sink_is_double:
        console.print("Sink:   a double of SQL Server, removed afterwards; SINK_URL names a SQL Server.")
        return True
    sink = redacted_location(SecretStr(stack.sink_url))
    console.print(f"Sink:   {sink}, which will get the schemas etl and etl_staging,", markup=False)
    console.print(f"        and the tables {names}. They stay.", markup=False)
    if os.environ.get("YES"):
        return True
    if not sys.stdin.isatty():
        console.print("Nothing was changed. Run it with YES=1 to go on.", style="bold red")
        return False
    return console.input("Go on? [y/N] ").strip().lower() in ("y", "yes")


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
