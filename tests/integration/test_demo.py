"""`make demo`, as README tells it: two runs that add up, and an honest word about the sink."""

import os
import subprocess

from tests.support.stack import ROOT


def test_the_demo_runs_twice_adds_up_and_says_what_its_sink_is() -> None:
    completed = subprocess.run(
        ["make", "demo"], cwd=ROOT, env=os.environ | {"COLUMNS": "140"}, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert completed.stdout.count("adds up") >= 2
    assert "Everything adds up" in completed.stdout
    assert ("not SQL Server" in completed.stdout) == ("SINK_URL" not in os.environ)
