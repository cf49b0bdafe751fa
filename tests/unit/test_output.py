"""Log lines of a step: readable on a terminal, JSON in a pod, and never a secret."""

import json
import os
import pty
import subprocess
import sys

from etl.errors import ExitCode
from etl.steps.progress import Progress

TELL = """
from etl.logs import configure_logs
import structlog
configure_logs(["hunter2"])
try:
    raise RuntimeError("no: hunter2")
except RuntimeError:
    structlog.get_logger().exception("connecting as hunter2", rows=5, note="hunter2 é")
"""

PANIC = """
import sys
from etl import cli

class Panic(BaseException):
    pass

def broken(**options):
    raise Panic("capacity overflow at hunter2")

cli.app = broken
cli.main()
"""


def test_in_a_pod_a_line_is_one_json_object_without_secrets() -> None:
    completed = subprocess.run([sys.executable, "-c", TELL], capture_output=True, text=True, check=True)
    (line,) = completed.stderr.splitlines()
    told = json.loads(line)
    assert (told["level"], told["event"], told["rows"], told["note"]) == ("error", "connecting as ***", 5, "*** é")
    assert "RuntimeError: no: ***" in told["exception"]
    assert "hunter2" not in line


def test_a_panic_of_a_driver_is_told_like_any_fault() -> None:
    environment = {**os.environ, "SOURCE_PASSWORD": "hunter2"}
    ended = subprocess.run([sys.executable, "-c", PANIC], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == ExitCode.UNEXPECTED
    (line,) = ended.stderr.splitlines()
    assert "This is a fault in etl, please report it: Panic: capacity overflow at ***" in json.loads(line)["event"]
    assert "hunter2" not in line


def test_on_a_terminal_a_line_is_for_people() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", TELL], stderr=theirs)
    process.wait()
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "connecting as ***" in shown
    assert not shown.lstrip().startswith("{")
    assert "hunter2" not in shown


def test_progress_counts_rows() -> None:
    progress = Progress("extract", expected=10)
    progress.add(4)
    progress.add(6)
    assert progress.rows == 10
    assert progress.seconds >= 0
