"""The job that prepares the sink gets the pipelines from the DAG files."""

import logging
from pathlib import Path

import pytest
from etl.model.pipeline import Pipeline
from etl_airflow.export_pipelines import main
from orders_etl import ORDERS

DAGS = Path(__file__).resolve().parents[2] / "dags"
BROKEN = "import nothing_of_that_name\n# airflow DAG\n"


def test_each_pipeline_is_written_as_it_is(tmp_path: Path) -> None:
    main(tmp_path, DAGS)
    found = {file.name: Pipeline.model_validate_json(file.read_text()) for file in tmp_path.iterdir()}
    assert found == {"orders_etl.json": ORDERS}


def test_a_file_that_cannot_be_read_is_told_and_keeps_out_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dags, folder = tmp_path / "dags", tmp_path / "pipelines"
    dags.mkdir()
    folder.mkdir()
    (dags / "orders_etl.py").write_text((DAGS / "orders_etl.py").read_text())
    (dags / "broken.py").write_text(BROKEN)
    with caplog.at_level(logging.WARNING, "etl_airflow.export_pipelines"):
        main(folder, dags)
    assert [file.name for file in folder.iterdir()] == ["orders_etl.json"]
    (told,) = (record.getMessage() for record in caplog.records if record.name == "etl_airflow.export_pipelines")
    assert "broken.py" in told
    assert "nothing_of_that_name" in told


def test_a_pipeline_that_is_verified_by_a_second_dag_is_written_once(tmp_path: Path) -> None:
    dags, folder = tmp_path / "dags", tmp_path / "pipelines"
    dags.mkdir()
    folder.mkdir()
    file = (DAGS / "orders_etl.py").read_text().replace("    owner=", "    verify=True,\n    owner=")
    (dags / "orders_etl.py").write_text(file)
    main(folder, dags)
    assert [file.name for file in folder.iterdir()] == ["orders_etl.json"]
