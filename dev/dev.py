"""`make dev`: Airflow's UI with the demo's source and sink, to trigger and retry by hand, until Ctrl-C.

SOURCE_URL and SINK_URL name another source and sink.
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


def main() -> int:
    """Run until Ctrl-C; returns the exit code."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="etl-dev-") as folder:
        console.print("Starting Postgres, the sink, and Airflow …")
        with run_stack(Path(folder), os.environ.get("SOURCE_URL", "")) as stack:
            port = int(os.environ.get("PORT") or free_port())
            with run_airflow(stack, port, AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL=str(LOOK_SECONDS)) as airflow:
                return _stay(console, stack, airflow)


def _stay(console: Console, stack: Stack, airflow: AirflowServer) -> int:
    try:
        if not airflow.wait_until_up():
            console.print(stack.log_end(), highlight=False, markup=False)
            console.print("Airflow did not start; its last lines are above.", style="bold red")
            return 1
        console.print(f"Airflow is at {airflow.url} (user {USER}, password {airflow.password}).", style="bold green")
        if os.environ.get("SOURCE_URL"):
            console.print(f"The source is {redacted_location(SecretStr(stack.source_url))} (SOURCE_URL).")
        else:
            console.print(f"The orders are at {stack.source_url}", soft_wrap=True)
        console.print(f"Airflow sees a new or changed file in dags/ within about {LOOK_SECONDS} s.")
        if stack.sink_is_double:
            console.print(f"The sink is a double of SQL Server, not SQL Server, at {stack.sink_url}", soft_wrap=True)
        else:
            console.print(f"The sink is {redacted_location(SecretStr(stack.sink_url))}")
        console.print(f"Logs go to {stack.log}. Ctrl-C stops everything.")
        return airflow.process.wait()
    except KeyboardInterrupt:
        console.print("Stopping …")
        return 0


if __name__ == "__main__":
    sys.exit(main())
