"""`etl preview` says what the first run then does, and changes nothing."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from etl.config.settings import Settings
from etl.errors import ConfigurationError
from etl.new.preview import preview, take_sample
from etl.sqlserver import sql as sink_sql

from dev.sandbox.pipeline_fixture import PipelineFixture
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs
from tests.harness.tables import table


def shown(
    made: PipelineFixture, capsys: pytest.CaptureFixture[str], settings: Settings | None = None
) -> dict[str, str]:
    """The lines above the types, by their names."""
    preview(settings or made.settings, made.pipeline)
    head = capsys.readouterr().out.partition("\n\n")[2].partition("\n\n")[0]
    return {line[:11].strip(): line[12:] for line in head.splitlines()}


def test_what_a_preview_says_is_what_the_first_run_does(
    orders: PipelineFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    said = shown(orders, capsys)
    assert said["first run"] == f"creates {orders.pipeline.sink} and reads the whole table"
    assert said["later runs"] == "read what has changed, by updated_at; rows deleted at the source stay in the sink"
    assert said["rows"] == "4,000 in the source now"
    assert said["filter"] == "keeps 40% of 4,000 rows in a sample"
    assert said["rejects"] == "0 of these rows"
    assert said["partitions"] == "1 in the first run; on K3s three pods each, one after the other"
    assert not orders.sink_exists()
    orders.run()
    assert len(orders.sink_rows()) == 1600
    (audit,) = orders.audits()
    assert (audit["extracted"], audit["kept"]) == (4000, 1600)
    fate = "has rows: those of the same key are updated where the source's version is later, those that the source does"
    assert f"which is there and {fate} not have stay" in shown(orders, capsys)["first run"]


def test_the_statement_creates_the_table_that_a_load_creates(
    orders: PipelineFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    preview(orders.settings, orders.pipeline)
    statement = capsys.readouterr().out.rpartition("\n\n")[2]
    assert statement.startswith("CREATE TABLE [dbo].")
    orders.execute(statement)
    assert shown(orders, capsys)["first run"].endswith("which is there and is empty")
    orders.run()
    assert len(orders.sink_rows()) == 1600


def test_rejects_of_the_sample_are_named_and_sensitive_values_are_masked(
    postgres: Postgres, sink_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {"k": "varchar(40)", "n": "numeric(5,2) null", "at": "timestamptz"}
    with table(postgres, sink_url, tmp_path, columns=columns, sensitive=["k"]) as made:
        made.change("ALTER TABLE t ALTER n TYPE numeric")
        made.change("INSERT INTO t SELECT 'person ' || n, n, now() FROM generate_series(1, 1005) n")
        said = shown(made, capsys)
        assert said["rejects"].startswith("6 of these rows; k=masked:")
        assert "person" not in str(said)
        assert not list(tmp_path.iterdir())
        assert not made.sink_exists()


def test_a_sample_has_no_more_rows_than_are_asked_for(orders: PipelineFixture) -> None:
    assert take_sample(orders.settings, orders.pipeline, 100).rows == 100


def test_a_run_that_would_fail_is_said_to(orders: PipelineFixture, capsys: pytest.CaptureFixture[str]) -> None:
    orders.execute(f"CREATE TABLE [dbo].[{orders.pipeline.sink.table}] ([order_id] int NOT NULL)")
    assert re.match("fails: sink table .* bigint is needed", shown(orders, capsys)["first run"])
    orders.change("ALTER TABLE orders DROP COLUMN note")
    with pytest.raises(ConfigurationError, match="has no column note"):
        preview(orders.settings, orders.pipeline)


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date", "bigint", "smallint"])
@pytest.mark.parametrize("rows", [0, 3])
def test_all_rows_are_in_the_sample_whatever_type_the_version_has(
    postgres: Postgres, sink_url: str, tmp_path: Path, kind: str, rows: int
) -> None:
    value = "n" if kind.endswith("int") else "now()"
    with table(postgres, sink_url, tmp_path, columns={"k": "varchar(40)", "v": "text null", "at": kind}) as made:
        made.change(f"INSERT INTO t SELECT n::text, 'v', {value} FROM generate_series(1, {rows}) n")
        assert take_sample(made.settings, made.pipeline).rows == rows


def test_a_column_that_the_load_would_add_is_said_to_be_added_and_filled(
    orders: PipelineFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sink_sql.sink_table(orders.pipeline)
    columns = {name: column for name, column in whole.columns.items() if name != "note"}
    orders.execute(sink_sql.create_table(replace(whole, columns=columns)))
    said = shown(orders, capsys)["first run"]
    assert said.startswith("reads the whole table into")
    assert said.endswith("; adds note and fills it")
    marking = orders.pipeline.model_copy(update={"deletes": "mark", "loaded_at": "loaded"})
    said = shown(replace(orders, pipeline=marking), capsys)["first run"]
    assert said.endswith("; adds note and fills it; adds deleted_at for marks; adds loaded for the time of loads")


def test_after_a_run_the_next_one_is_said_to_read_what_has_changed(
    orders: PipelineFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(orders, monkeypatch)
    runs.run("first")
    said = shown(orders, capsys)
    since = f"what has changed after {runs.watermark()}+00:00, less the look-back"
    assert said["next run"] == f"reads into {orders.pipeline.sink} {since}"
    assert said["partitions"].startswith("1 if all rows are read")
    assert "first run" not in said
    wider = replace(orders, pipeline=orders.pipeline.with_columns({"more": "varchar(9) null"}))
    orders.change("ALTER TABLE orders ADD more varchar(9)")
    assert (
        shown(wider, capsys)["next run"] == f"reads the whole table into {orders.pipeline.sink}; adds more and fills it"
    )
    orders.execute(f"DROP TABLE [dbo].[{orders.pipeline.sink.table}]")
    assert "with full_refresh the whole table" in shown(orders, capsys)["next run"]


def test_a_column_that_plan_would_add_is_among_the_columns(
    orders: PipelineFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    orders.change("ALTER TABLE orders ADD more varchar(9)")
    preview(orders.settings, orders.pipeline.model_copy(update={"on_new_source_column": "add"}))
    said = capsys.readouterr().out
    assert re.search(r"\nmore +character varying\(9\) +varchar\(9\) null +nvarchar\(9\) NULL\n", said)
    assert "[more] nvarchar(9) NULL" in said


def test_a_version_without_an_index_is_named(orders: PipelineFixture, capsys: pytest.CaptureFixture[str]) -> None:
    orders.change("DROP INDEX orders_updated_at")
    settings = orders.settings.model_copy(update={"sink_url": None})
    said = shown(orders, capsys, settings)
    assert "no index begins with updated_at, so each of them reads through the table" in said["later runs"]
    assert said["first run"].endswith("unless it is there (SINK_URL is not set)")


def test_the_command_takes_the_file_of_a_dag(source_url: str) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [str(Path(sys.executable).with_name("etl")), "preview", "dags/orders_etl.py"]
    completed = subprocess.run(command, env={"SOURCE_URL": source_url}, capture_output=True, text=True, cwd=root)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.startswith("orders: public.orders → dbo.orders\n")
    assert re.search(r"order_id +bigint +bigint +bigint\n", completed.stdout)
