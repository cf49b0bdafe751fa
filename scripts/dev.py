"""`make dev`: Airflow's UI on the parts of the demo, to trigger and retry by hand, until Ctrl-C."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from etl.settings import place
from pydantic import SecretStr
from rich.console import Console

from tests.support.process import die_with_parent, free_port
from tests.support.stack import ROOT, Stack, run_stack

START_SECONDS = 300
STOP_SECONDS = 20


def main() -> int:
    """Run until Ctrl-C; returns the exit code."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="etl-dev-") as folder:
        console.print("Starting Postgres, the sink, and Airflow …")
        with run_stack(Path(folder)) as stack:
            port = int(os.environ.get("PORT") or free_port())
            password = secrets.token_urlsafe(12)
            with _airflow(stack, Path(folder), port, password) as airflow:
                return _stay(console, stack, airflow, port, password)


def _airflow(stack: Stack, folder: Path, port: int, password: str) -> "subprocess.Popen[bytes]":
    """Start `airflow standalone`: for one person at one machine, which is what this is."""
    url = f"http://127.0.0.1:{port}"
    users = folder / "passwords.json"
    users.write_text(f'{{"admin": "{password}"}}')
    environment = {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(users),
    }
    with stack.log.open("ab") as log:
        return subprocess.Popen(
            ["airflow", "standalone"],
            env=os.environ | stack.environment | environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
            start_new_session=True,
        )


def _stay(console: Console, stack: Stack, airflow: "subprocess.Popen[bytes]", port: int, password: str) -> int:
    try:
        if not _wait_until_up(airflow, port):
            console.print(stack.log_end(), highlight=False, markup=False)
            console.print("Airflow did not start; its last lines are above.", style="bold red")
            return 1
        console.print(f"Airflow is at http://127.0.0.1:{port} (user admin, password {password}).", style="bold green")
        console.print(f"The orders are at {stack.source_url}")
        if stack.sink_is_stand_in:
            console.print(f"The sink is a stand-in, a test double and not SQL Server, at {stack.sink_url}")
        else:
            console.print(f"The sink is {place(SecretStr(stack.sink_url))}")
        console.print(f"Logs go to {stack.log}. Ctrl-C stops everything.")
        return airflow.wait()
    except KeyboardInterrupt:
        console.print("Stopping …")
        return 0
    finally:
        _stop(airflow)


def _stop(airflow: "subprocess.Popen[bytes]") -> None:
    """Ask `airflow standalone` to end its components, and end the whole session where one of them hangs."""
    airflow.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        airflow.wait(timeout=STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(airflow.pid, signal.SIGKILL)
    airflow.wait()


def _wait_until_up(airflow: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and airflow.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=5):
                return True
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(1)
    return False


if __name__ == "__main__":
    sys.exit(main())
