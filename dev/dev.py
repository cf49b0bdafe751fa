"""`make dev`: Airflow's UI with the demo's source and sink, to trigger and retry by hand, until Ctrl-C.

SOURCE_URL and SINK_URL name another source and sink; PORT another port than 8080.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path

from etl.config.settings import redacted_location
from pydantic import SecretStr
from rich.console import Console

from dev.sandbox.airflow_server import USER, AirflowServer, run_airflow
from dev.sandbox.process import free_port
from dev.sandbox.stack import Stack, run_stack

LOOK_SECONDS = 5
"""Interval at which Airflow scans for DAG files."""
PORT = 8080


def main() -> int:
    """Run until Ctrl-C; returns the exit code."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="etl-dev-") as folder:
        console.print("Starting the databases and Airflow …")
        with run_stack(Path(folder), os.environ.get("SOURCE_URL", "")) as stack:
            _show_databases(console, stack)
            port = int(os.environ.get("PORT") or 0) or free_port(PORT)
            with run_airflow(stack, port, AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL=str(LOOK_SECONDS)) as airflow:
                return _stay(console, stack, airflow)


def _stay(console: Console, stack: Stack, airflow: AirflowServer) -> int:
    try:
        if not airflow.wait_until_up():
            console.print(stack.log_end(), highlight=False, markup=False)
            console.print("Airflow did not start; its last lines are above.", style="bold red")
            return 1
        console.print(f"Airflow is at {airflow.url} (user {USER}, password {airflow.password}).", style="bold green")
        console.print(f"Next:     {_next()}", soft_wrap=True, highlight=False)
        if stack.sink_is_double:
            query = f"'{stack.sink_url}' 'SELECT TOP 10 * FROM dbo.orders'"
            console.print(f"Rows:     in another terminal: .venv/bin/python -m dev.query {query}", soft_wrap=True)
        console.print(f"          Airflow sees a new or changed file in dags/ within about {LOOK_SECONDS} s.")
        console.print(f"Logs:     {stack.log}. Ctrl-C stops everything.", soft_wrap=True)
        return airflow.process.wait()
    except KeyboardInterrupt:
        console.print("Stopping …")
        return 0


def _show_databases(console: Console, stack: Stack) -> None:
    """Print the source and the sink, and what a run changes in them."""
    if os.environ.get("SOURCE_URL"):
        console.print(f"Source:   {redacted_location(SecretStr(stack.source_url))}, which is only read.")
    else:
        console.print(f"Source:   {stack.source_url} (orders, in a Postgres of this demo)", soft_wrap=True)
    if stack.sink_is_double:
        console.print(f"Sink:     {stack.sink_url} (a double of SQL Server, not SQL Server)", soft_wrap=True)
    else:
        console.print(f"Sink:     {redacted_location(SecretStr(stack.sink_url))}")
        console.print(
            "          A run creates the schemas etl and etl_staging, and its DAG's table; else nothing changes."
        )
    console.print("          Nothing is read or written before you switch on a DAG in Airflow.")


def _next() -> str:
    if os.environ.get("SOURCE_URL"):
        return "in another terminal, with the same SOURCE_URL: .venv/bin/etl new-pipeline public.YOUR_TABLE"
    return "switch on orders_etl and look at its first run; then change an order at the source, and trigger it again."


if __name__ == "__main__":
    sys.exit(main())
