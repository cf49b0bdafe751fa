"""Values of sensitive columns arrive in the sink, and stand in no output of any step, whatever goes wrong."""

import io
import logging
import os
import sys
import tempfile
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest
from etl import cli
from etl.config.settings import Settings
from etl.steps import reading
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.postgres import Postgres
from tests.harness.metrics.statsd import Listener
from tests.harness.runs import Runs
from tests.harness.tables import table

MASK_KEY = "a key that masks are made with"
COLUMNS = {"k": "varchar(60)", "v": "varchar(60)", "n": "numeric(20,4) null", "note": "text null", "at": "timestamptz"}
KEYS = {"varchar(60)": "text", "bigint": "bigint", "uuid": "uuid", "date": "date", "numeric(20,2)": "numeric(20,2)"}
"""Types of the key, and what the column is at the source."""
FAULTS = (
    "none", "rejected", "tolerated", "null", "future", "refused", "gone back", "duplicate", "trigger", "long row",
    "unexpected",
)  # fmt: skip


@dataclass
class Values:
    """Values to put into a row, and by what each is known wherever it is shown."""

    texts: st.DataObject
    needles: list[str] = field(default_factory=list)

    def text(self) -> str:
        """One with signs before it by which servers and languages end a quotation."""
        core = f"qz{uuid.uuid4().hex[:10]}"
        self.needles.append(core)
        return self.texts.draw(st.text("a'\"(]« \\", max_size=4)) + core

    def key(self, kind: str) -> str:
        """A key of a type."""
        if kind == "varchar(60)":
            return self.text()
        digits = str(uuid.uuid4().int)[:13].replace("0", "7")
        made = {
            "bigint": digits,
            "uuid": str(uuid.uuid4()),
            "date": f"19{digits[:2]}-0{digits[2]}-1{digits[3]}",
            "numeric(20,2)": f"{digits}.50",
        }[kind]
        self.needles.append(made[:8] if kind == "uuid" else made.partition(".")[0])
        return made

    def number(self) -> str:
        """A number that does not come by chance."""
        self.needles.append(str(uuid.uuid4().int)[:14].replace("0", "7"))
        return f"{self.needles[-1]}.25"


class Outputs:
    """All that runs of a pipeline leave for others to read, but for the rows on their way."""

    def __init__(self, made: PipelineFixture, staging: Path) -> None:
        self._made, self._staging = made, staging
        self.texts: list[str] = []

    def step(self, *arguments: str, **variables: str) -> int:
        """Run the `etl` command here, with its own log; returns its exit code."""
        self.texts.append(" ".join(arguments[1:]))
        environment = self._made.environment(MASK_KEY=MASK_KEY, **variables)
        said = io.StringIO()
        with mock.patch.dict(os.environ, environment, clear=True), mock.patch.object(sys, "argv", ["etl", *arguments]):
            try:
                with redirect_stderr(said), redirect_stdout(said):
                    cli.main()
            except SystemExit as ended:
                self.texts.append(said.getvalue())
                return int(str(ended.code))
        raise AssertionError("it did not end")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Keep what a task in a worker logs, and how it fails."""
        kept = logging.StreamHandler(said := io.StringIO())
        root = logging.getLogger()
        level = root.level
        root.addHandler(kept)
        root.setLevel(logging.INFO)
        try:
            with redirect_stderr(said), redirect_stdout(said):
                yield
        except Exception as error:
            self.texts += ["".join(traceback.format_exception(error))]
        finally:
            root.removeHandler(kept)
            root.setLevel(level)
            self.texts.append(said.getvalue())

    def all(self) -> str:
        """All of it, also what stands in staging and in the tables beside the sink's."""
        for file in self._staging.rglob("*.json"):
            self.texts.append(file.read_text())
        for file in self._staging.rglob("rejects/*.parquet"):
            self.texts.append(str(pq.read_table(file).to_pylist()))
        for kept in ("audit", "watermark", "settled"):
            if self._made.query(f"SELECT OBJECT_ID(N'[etl].[{kept}]', N'U')") != [(None,)]:
                name = self._made.pipeline.name
                self.texts.append(str(self._made.query(f"SELECT * FROM [etl].[{kept}] WHERE [pipeline] = ?", name)))
        return "\n".join(self.texts).casefold()


@dataclass
class Scene:
    """A pipeline with rows in it, and what its runs say."""

    made: PipelineFixture
    runs: Runs
    values: Values
    staging: Path
    outputs: Outputs
    fault: str

    def insert(self, at: str = "now() - interval '1 hour'", **changes: str | None) -> None:
        """A row of secrets."""
        kind = str(self.made.pipeline.types["k"])
        row: dict[str, Any] = {"k": self.values.key(kind), "v": self.values.text(), "n": self.values.number()}
        row |= {"note": self.values.text(), **changes}
        markers = ", ".join(["%s"] * len(row))
        self.made.change(f"INSERT INTO {self.made.pipeline.source.table} VALUES ({markers}, {at})", *row.values())

    def run(self, run_id: str) -> list[int]:
        """A run as its DAG does it; returns the exit codes of its steps."""
        partitions: list[str] = []
        with self.outputs.told():
            partitions = self.runs.plan()
        self.outputs.texts += partitions
        steps = ("run",) if self.made.pipeline.steps == "fused" else ("extract", "filter", "load")
        variables = {"LONGEST_ROW": "20"} if self.fault == "long row" else {}
        codes = []
        with Listener() as listener, self._broken():
            variables |= {"STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(listener.port)}
            for partition in partitions:
                for step in steps:
                    words = ("--pipeline", self.made.pipeline.model_dump_json(), "--run-id", run_id)
                    codes.append(self.outputs.step(step, *words, "--partition", partition, **variables))
            listener.catch_up()
            self.outputs.texts += listener.texts
        if partitions:
            with self.outputs.told():
                self.outputs.texts.append(str(self.runs.reconcile(run_id, partitions)))
        return codes

    @contextmanager
    def _broken(self) -> Iterator[None]:
        if self.fault != "unexpected":
            yield
            return

        def refuse(_: object, batch: Any) -> Any:
            raise ValueError(f"cannot convert {batch.to_pylist()}") from TypeError(str(batch.to_pylist()))

        with mock.patch.object(reading.Reading, "_checked", refuse):
            yield

    def prepare(self) -> None:
        """Make the changes that cause the failure."""
        for _ in range(3):
            self.insert()
        match self.fault:
            case "rejected" | "tolerated":
                self.insert(v=self.values.text() + "x" * 60)
            case "null":
                self.insert(v=None)
            case "future" | "refused":
                self.insert(at="now() + interval '1 day'")
            case "duplicate":
                self._create("v")
                twice = self.values.text()
                self.insert(v=twice)
                self.insert(v=twice)
            case "trigger":
                self._create("k")
                name, told = self.made.pipeline.sink.table, self.values.text().replace("'", "''")
                body = f"THROW 50001, '{told} is not wanted', 1"
                self.made.execute(f"CREATE TRIGGER [dbo].[tr_{name}] ON [dbo].[{name}] AFTER INSERT AS {body}")

    def _create(self, key: str) -> None:
        columns = ", ".join(
            f"[{name}] {kind.tsql}{' COLLATE Latin1_General_BIN2' if name == 'k' and kind.is_text else ''}"
            f" {'NULL' if kind.nullable else 'NOT NULL'}"
            for name, kind in self.made.pipeline.types.items()
        )
        self.made.execute(f"CREATE TABLE [dbo].[{self.made.pipeline.name}] ({columns}, PRIMARY KEY ([{key}]))")


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[str]:
    name = f"sensitive_{uuid.uuid4().hex[:8]}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@contextmanager
def scene(database: str, sink_url: str, data: st.DataObject, kind: str, fault: str, **pipeline: Any) -> Iterator[Scene]:
    table = f"t_{uuid.uuid4().hex[:8]}"
    definition: dict[str, Any] = {
        "name": "people", "source": f"public.{table}", "columns": {**COLUMNS, "k": kind}, "key": ["k"],
        "version": "at", "filter": "v <> 'none'", "partition_size": 2,
        "tolerated_rejects": 9 if fault == "tolerated" else 0,
        "unreachable_versions": "refuse" if fault == "refused" else "warn", **pipeline,
    }  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        pipeline_fixture(definition, database, sink_url, Path(folder)) as made,
    ):
        patch.setenv("MASK_KEY", MASK_KEY)
        made.change(f"CREATE TABLE {table} (k {KEYS[kind]} PRIMARY KEY, v text, n numeric, note text, at timestamptz)")
        made.change(f"ALTER TABLE {table} ALTER at SET NOT NULL")
        found = Scene(made, Runs(made, patch), Values(data), Path(folder), Outputs(made, Path(folder)), fault)
        found.prepare()
        yield found
        made.change(f"DROP TABLE {table}")


def shows(made: Scene) -> list[str]:
    """Which of its values the outputs of its runs show."""
    made.run("first")
    if made.fault == "gone back":
        made.made.change(f"UPDATE {made.made.pipeline.source.table} SET at = at - interval '1 day'")
        made.run("second")
    said = made.outputs.all()
    return [needle for needle in made.values.needles if needle.casefold() in said]


@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=3, phases=[Phase.generate], suppress_health_check=list(HealthCheck))  # shrinking takes minutes
@given(data=st.data())
def test_no_output_of_any_step_shows_a_value(database: str, sink_url: str, fault: str, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(KEYS)))
    steps, pushdown = data.draw(st.sampled_from(["separate", "fused"])), data.draw(st.booleans())
    sensitive = ["k", "v", "n", "note"]
    with scene(database, sink_url, data, kind, fault, steps=steps, pushdown=pushdown, sensitive=sensitive) as made:
        assert shows(made) == []
        if fault in ("none", "future", "gone back"):
            at = "at < now()"
            assert made.made.sink_rows().keys() == made.made.source_rows(at).keys()


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "none"])
@settings(max_examples=1, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_where_no_column_is_sensitive_the_same_output_shows_them(
    database: str, sink_url: str, fault: str, data: st.DataObject
) -> None:
    """So what is looked through above is where they would be."""
    with scene(database, sink_url, data, "varchar(60)", fault) as made:
        assert shows(made)


@settings(max_examples=1, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_refusal_names_the_row_by_a_mask_that_is_the_same_in_messages_and_rejects(
    database: str, sink_url: str, data: st.DataObject
) -> None:
    with scene(database, sink_url, data, "uuid", "none", sensitive=["k", "v"], partition_size=100) as made:
        key = str(uuid.uuid4())
        made.insert(k=key, v="x" * 70, n="5")
        made.run("first")
        said = made.outputs.all()
        mask = Settings(mask_key=SecretStr(MASK_KEY)).mask(made.made.pipeline).masked("k", key.upper())
        assert f"the first is k={mask}: v is longer than" in said
        (file,) = made.staging.rglob("rejects/*.parquet")
        (row,) = pq.read_table(file)["row"].to_pylist()
        assert (row["k"], row["v"].partition(":")[0], row["n"]) == (mask, "masked", "5")


@settings(max_examples=1, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_partitions_of_sensitive_keys_cover_each_row_once_and_name_no_key(
    database: str, sink_url: str, data: st.DataObject
) -> None:
    with scene(database, sink_url, data, "varchar(60)", "none", sensitive=["k"], partition_size=20) as made:
        for _ in range(200):
            made.insert()
        partitions = made.runs.plan()
        assert len(partitions) > 5
        assert not any('"lower"' in partition or '"upper"' in partition for partition in partitions)
        assert made.run("first") == [0] * 3 * len(partitions)
        audits = made.made.audits()
        assert (len(audits), sum(audit["extracted"] for audit in audits)) == (len(partitions), 203)
        assert min(audit["extracted"] for audit in audits) > 0
        assert made.made.sink_rows().keys() == made.made.source_rows().keys()


@pytest.mark.parametrize("step", ["extract", "run"])
def test_bytes_that_are_no_text_are_told_by_masks(postgres: Postgres, sink_url: str, tmp_path: Path, step: str) -> None:
    with table(postgres, sink_url, tmp_path, "SQL_ASCII", sensitive=["k", "v"]) as made:
        made.change(r"INSERT INTO t VALUES ('qz-key', E'qz-value \xe9', '2026-01-01')")
        completed = made.cli(step, MASK_KEY=MASK_KEY)
    assert "k=masked:" in completed.stderr
    assert "v is not valid UTF-8 (masked:" in completed.stderr
    assert "qz" not in completed.stderr
