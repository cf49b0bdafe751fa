"""How long a row may be follows from the memory that the container, or else the machine, has."""

from pathlib import Path

import pytest
from etl.steps.memory import longest_row
from etl_airflow.pods.spec import MEMORY
from kubernetes.utils.quantity import parse_quantity


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_it_follows_from_the_limit_of_the_container(file: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("1073741824\n")
    assert longest_row(tmp_path) == 102_967_728


def test_a_small_container_carries_rows_of_a_megabyte(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("134217728\n")
    assert longest_row(tmp_path) == 1_000_000


@pytest.mark.parametrize("limit", ["max", "9223372036854771712"])
def test_without_a_limit_it_follows_from_the_memory_of_the_machine(limit: str, tmp_path: Path) -> None:
    without = longest_row(tmp_path)
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    assert longest_row(tmp_path) == without < 9223372036854771712


def test_the_pod_of_a_step_carries_rows_of_100_mb(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(str(int(parse_quantity(MEMORY))))
    assert longest_row(tmp_path) >= 100_000_000
