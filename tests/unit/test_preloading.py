"""The DAG processor imports what every DAG file needs before it forks a process for each; other processes do not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = Path(__file__).resolve().parents[2] / "airflow_image" / "config"
PROGRAM = """
import sys
sys.argv = ["airflow", sys.argv[1]]
import airflow
from airflow import settings
print("etl_airflow.dag.factory" in sys.modules)
"""


@pytest.mark.parametrize(("command", "imports"), [("dag-processor", "True"), ("scheduler", "False")])
def test_only_the_dag_processor_imports_the_factory_at_its_start(command: str, imports: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(CONFIG)}
    completed = subprocess.run(
        [sys.executable, "-c", PROGRAM, command], env=environment, capture_output=True, text=True, check=True
    )
    assert completed.stdout.splitlines()[-1] == imports
