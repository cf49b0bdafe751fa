"""`make demo`: runs the orders DAG twice, with changes at the source in between, and checks that rows add up.

Everything runs on this machine and is removed afterwards: Postgres with the orders, Airflow with its database, and the
sink: the SQL Server of SINK_URL, else a double of SQL Server. With SOURCE_URL your own tables are moved instead.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mssql_python
from etl.arguments import read_dag
from etl.config.settings import read_settings
from etl.errors import ConfigurationError, EtlError
from etl.model.pipeline import Pipeline
from etl.postgres.checks import check_source
from etl.postgres.connection import snapshot
from rich.console import Console
from rich.table import Table

from dev.own_tables import move_own_tables
from dev.sandbox.pipeline_fixture import PipelineFixture, existing_fixture
from dev.sandbox.stack import ROOT, Stack, run_stack

EXAMPLE = ROOT / "dags" / "orders_etl.py"
CHANGES = 500
ADDS_UP = "adds up"
COUNTS = ("extracted", "dropped", "rejected", "inserted", "updated", "unchanged")


def main() -> int:
    """Run the demo; returns the exit code."""
    console = Console()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="etl-demo-") as name:
        folder = Path(name)
        try:
            source_url = _checked_source()
            console.print("Starting Postgres, the sink, and Airflow's database …")
            if source_url:
                return 0 if move_own_tables(console, folder, source_url) else 1
            with run_stack(folder) as stack:
                good = _demonstrate(console, stack)
        except (RuntimeError, EtlError, mssql_python.Error) as error:
            console.print(f"The demo failed: {error}", style="bold red", markup=False)
            return 1
    verdict = "Everything adds up" if good else "It does NOT add up"
    console.print(f"{verdict}, in {time.monotonic() - began:.0f} s.", style="bold green" if good else "bold red")
    return 0 if good else 1


def _checked_source() -> str:
    """SOURCE_URL. Raises ConfigurationError for variables that no run could use, before a server starts."""
    settings, source_url = read_settings(), os.environ.get("SOURCE_URL", "")
    if os.environ.get("TABLES") and not source_url:
        raise ConfigurationError("TABLES needs SOURCE_URL, the Postgres that has them.")
    if source_url:
        settings.source()
    if settings.sink_url is not None:
        settings.sink()
    return source_url


def _example(stack: Stack) -> Pipeline:
    """The orders of dags/. Raises ConfigurationError if its file is not the example any more."""
    try:
        (pipeline,) = (each for each in read_dag(EXAMPLE) if each.name == "orders")
        settings = existing_fixture(pipeline, stack.source_url, stack.sink_url).settings
        with snapshot(settings, "orders", "reading it") as connection, connection.cursor() as cursor:
            check_source(pipeline, cursor)
    except (ConfigurationError, ValueError) as error:
        raise ConfigurationError(
            f"dags/orders_etl.py is not the example any more, which the demo runs: {error}"
            " `git checkout dags/orders_etl.py` brings it back; with SOURCE_URL the demo moves tables of yours."
        ) from None
    return pipeline


def _demonstrate(console: Console, stack: Stack) -> bool:
    if stack.sink_is_double:
        console.print("The sink is a double of SQL Server, not SQL Server; set SINK_URL to use one.", style="yellow")
    console.print("The steps run as local processes (ETL_RUNNER=process); on K3s each is a pod.")
    example = _example(stack)
    stack.run("airflow", "db", "migrate", quiet=True)
    site = existing_fixture(example, stack.source_url, stack.sink_url)
    site.claim()
    runs = {"initial load": _run(console, stack, site, "initial load", {})}
    before, orders = site.sink_rows(), site.source_rows()
    traffic = str(ROOT / "external-db" / "traffic.py")
    stack.run(sys.executable, traffic, "--rate", "0", "--count", str(CHANGES), quiet=True)
    changed = sum(orders.get(key) != row for key, row in site.source_rows().items())
    console.print(f"Changed the source: {CHANGES} changes to {changed} orders, some of them more than once.")
    runs["what changed"] = _run(console, stack, site, "what changed", before)
    console.print(_as_table(runs))
    return all(run["verdict"] == ADDS_UP for run in runs.values())


def _run(
    console: Console, stack: Stack, site: PipelineFixture, label: str, before: dict[Any, tuple[Any, ...]]
) -> dict[str, str]:
    """Run the DAG once; returns its row counts, and the verdict on them and on the rows of the sink."""
    console.print(f"Running the DAG orders_etl: {label} …")
    run = stack.run_dag("orders_etl", retry=False)
    if run["state"] != "success":
        raise RuntimeError(f"the run {run['run_id']} {run['state']}. {' '.join(run['why']) or stack.log_end()}")
    audits = [audit for audit in site.audits() if audit["run_id"] == run["run_id"]]
    in_sink = site.sink_rows()
    # Orders once confirmed stay; orders confirmed now are up to date.
    right = in_sink == {**before, **site.source_rows("status = 'confirmed'")}
    good = bool(audits) and right
    return {
        **{count: f"{sum(audit[count] for audit in audits):,}" for count in COUNTS},
        "in sink": f"{len(in_sink):,}",
        "verdict": ADDS_UP if good else "the sink is WRONG",
    }


def _as_table(runs: dict[str, dict[str, str]]) -> Table:
    table = Table("rows", title="orders: Postgres → SQL Server")
    for label in runs:
        table.add_column(label, justify="right")
    for name in (*COUNTS, "in sink", "verdict"):
        table.add_row(name, *(run[name] for run in runs.values()))
    return table


if __name__ == "__main__":
    sys.exit(main())
