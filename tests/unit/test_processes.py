"""Processes that a test has started end with it."""

import os
import subprocess
import sys
from pathlib import Path

from dev.sandbox.process import kill_session
from dev.sandbox.waiting import wait_for

SUPERVISOR = """
import os, sys, time
if os.fork() == 0:
    os.setpgid(0, 0)  # as Airflow's supervisor has it
    print(os.getpid(), flush=True)
time.sleep(600)
"""


def test_the_end_of_a_session_is_the_end_of_a_task_that_has_a_group_of_its_own() -> None:
    command = [sys.executable, "-c", SUPERVISOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as supervisor:
        assert supervisor.stdout
        task = int(supervisor.stdout.readline())
        assert os.getpgid(task) == task
        kill_session(supervisor.pid)
    state = Path(f"/proc/{task}/stat")
    wait_for(lambda: not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z")  # or a zombie
