"""What a step tells: readable on a terminal, JSON in a pod, metrics by outcome, and never a secret."""

import json
import os
import pty
import socket
import subprocess
import sys

from etl.metrics import Metrics
from etl.progress import Progress
from etl.settings import Settings

TELL = """
from etl.logs import configure_logs
import structlog
configure_logs(["hunter2"])
try:
    raise RuntimeError("no: hunter2")
except RuntimeError:
    structlog.get_logger().exception("connecting as hunter2", rows=5, note="hunter2 é")
"""


def test_in_a_pod_a_line_is_one_json_object_without_secrets() -> None:
    completed = subprocess.run([sys.executable, "-c", TELL], capture_output=True, text=True, check=True)
    (line,) = completed.stderr.splitlines()
    told = json.loads(line)
    assert (told["level"], told["event"], told["rows"], told["note"]) == ("error", "connecting as ***", 5, "*** é")
    assert "RuntimeError: no: ***" in told["exception"]
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


def test_metrics_carry_their_tags_in_the_name() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        settings = Settings(statsd_host="127.0.0.1", statsd_port=server.getsockname()[1])
        metrics = Metrics(settings, pipeline="orders", step="load: x")
        metrics.rows("inserted", 7)
        metrics.bytes(1000)
        metrics.seconds(1.5)
        received = [server.recv(1000).decode() for _ in range(3)]
    assert received == [
        "etl.rows,pipeline=orders,step=load__x,outcome=inserted:7|c",
        "etl.bytes,pipeline=orders,step=load__x:1000|c",
        "etl.step_duration,pipeline=orders,step=load__x:1500.000000|ms",
    ]


def test_without_a_server_metrics_go_nowhere() -> None:
    Metrics(Settings(), pipeline="orders").rows("kept", 1)


def test_progress_counts_rows() -> None:
    progress = Progress("extract", expected=10)
    progress.add(4)
    progress.add(6)
    assert progress.rows == 10
    assert progress.seconds >= 0
