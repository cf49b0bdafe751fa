"""docs/prepare-sink.sql, which an administrator reviews, has the statements that `etl prepare-sink` sends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from orders_etl import ORDERS

from dev.sandbox.stack import ROOT

REVIEWED = ROOT / "docs" / "prepare-sink.sql"


@pytest.mark.parametrize("files", [[], ["orders.json"]], ids=["of the orders", "of a file"])
def test_the_script_for_review_has_the_statements_that_are_sent(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "orders.json").write_text(ORDERS.model_dump_json())
    command = [sys.executable, "-m", "dev.prepare_script", *(str(tmp_path / name) for name in files)]
    environment = os.environ | {"PYTHONPATH": "", "SINK_URL": "mssql://etl@db:1433/sink?encrypt=yes"}
    run = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert run.stdout == REVIEWED.read_text(), "python -m dev.prepare_script > docs/prepare-sink.sql"
