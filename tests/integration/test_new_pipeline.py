"""`etl new-pipeline` against a real catalogue: columns, keys, versions by evidence, files that stay, and refusals."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.dag_processing.dagbag import DagBag
from etl.arguments import read_dag
from etl.model.pipeline import Pipeline
from etl.new.catalogue import read_tables
from etl.new.triggers import maintained
from hypothesis import given, settings
from hypothesis import strategies as st

from dev.sandbox.pipeline_fixture import existing_fixture
from dev.sandbox.postgres import Postgres

TOUCH = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.changed_at := now(); RETURN NEW; END $$;
"""
STOCK = f"""
{TOUCH}
CREATE TABLE stock (
  warehouse uuid, sku varchar(40), counted_on date NOT NULL DEFAULT '2026-01-31', quantity integer, weight real,
  price numeric, label text, changed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (warehouse, sku)
);
CREATE TRIGGER touch BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO stock (warehouse, sku, quantity, weight, price, label)
  SELECT gen_random_uuid(), 'a' || n, n, n / 3.0, n / 1000.0, 'label' FROM generate_series(1, 50) n;
"""


@dataclass
class Source:
    """A database, the folder for its DAG files, and the command."""

    url: str
    dags: Path

    def change(self, script: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(script.encode())

    def run(self, *arguments: str, code: int = 0) -> str:
        command = [str(Path(sys.executable).with_name("etl")), "new-pipeline", *arguments]
        environment = {"SOURCE_URL": self.url, "PATH": ""}
        completed = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=self.dags.parent)
        assert completed.returncode == code, completed.stdout + completed.stderr
        return completed.stdout + completed.stderr

    def pipeline(self, name: str) -> Pipeline:
        (found,) = read_dag(self.dags / f"{name}_etl.py")
        return found


@pytest.fixture
def source(postgres: Postgres, tmp_path: Path) -> Iterator[Source]:
    name = f"new_{uuid.uuid4().hex[:8]}"
    (tmp_path / "dags").mkdir()
    yield Source(postgres.create_database(name), tmp_path / "dags")
    postgres.drop_database(name)


def test_a_table_becomes_a_dag_that_imports_and_whose_first_run_moves_its_rows(
    source: Source, sink_url: str, tmp_path: Path
) -> None:
    source.change(STOCK)
    shown = source.run("public.stock")
    assert "written  public.stock → dags/stock_etl.py" in shown
    pipeline = source.pipeline("stock")
    assert pipeline.columns == {
        "warehouse": "uuid", "sku": "varchar(40)", "counted_on": "date", "quantity": "integer null",
        "weight": "real null", "price": "numeric(38,20) null", "label": "text null", "changed_at": "timestamptz",
    }  # fmt: skip
    assert (pipeline.key, pipeline.version, pipeline.deletes) == (["warehouse", "sku"], "changed_at", "delete")
    assert pipeline.deletes_every == timedelta(days=1)  # a comparison reads the keys of all rows: not every 15 minutes
    text = (source.dags / "stock_etl.py").read_text()
    assert "# The trigger touch sets it at each UPDATE.\n    version=" in text
    assert "# numeric without precision; today's values have at most 0 digits before the point and 3 after it" in text
    bag = DagBag(str(source.dags))
    assert bag.import_errors == {}
    assert list(bag.dags) == ["stock_etl"]
    made = existing_fixture(pipeline, source.url, sink_url, tmp_path / "staging")
    try:
        made.run()
        assert len(made.sink_rows()) == 50
    finally:
        made.clean()


def test_a_file_is_kept_unless_it_is_to_be_replaced(source: Source) -> None:
    source.change(STOCK)
    mine = 'STOCK = Pipeline(name="mine", source="public.stock", sink="dbo.mine", columns={"a": "uuid", "at": "timestamptz"}, key=["a"], version="at", filter="true")'  # noqa: E501
    (source.dags / "mine_etl.py").write_text(mine)
    kept = source.run("public.*")
    assert "skipped  public.stock → dags/mine_etl.py" in kept
    assert "its runs would stop: mine: public.stock has no column a. Was it renamed to warehouse" in kept
    assert [path.name for path in source.dags.iterdir()] == ["mine_etl.py"]
    dry = source.run("public.stock", "--overwrite", "--dry-run")
    assert "would be written public.stock → dags/mine_etl.py" in dry
    assert "1 would be written, 0 skipped, 0 refused. Nothing was written: this was a dry run." in dry
    assert (source.dags / "mine_etl.py").read_text() == mine
    source.run("public.stock", "--overwrite")
    assert str(source.pipeline("mine").sink) == "dbo.mine"
    assert len(source.pipeline("mine").columns) == 8
    # A file that only Airflow can read keeps its name.
    (source.dags / "stock_etl.py").write_text("STOCK = Pipeline(**SETTINGS)")
    (source.dags / "mine_etl.py").unlink()
    assert "→ dags/public_stock_etl.py" in source.run("public.stock")
    assert (source.dags / "stock_etl.py").read_text() == "STOCK = Pipeline(**SETTINGS)"


def test_files_of_any_name_are_kept(source: Source) -> None:
    """A pipeline stays in its file, and a file of another pipeline is not overwritten."""
    source.change(STOCK)
    mine = 'STOCK = Pipeline(name="mine", source="{}", sink="dbo.mine", columns={{"a": "uuid", "at": "timestamptz"}}, key=["a"], version="at", filter="true")\n'  # noqa: E501
    (source.dags / "all.py").write_text(mine.format("public.stock"))
    assert "skipped  public.stock → dags/all.py" in source.run("public.stock")
    source.run("public.stock", "--overwrite")
    assert [path.name for path in source.dags.iterdir()] == ["all.py"]
    two = mine.format("public.stock") + mine.format("public.other").replace('"mine"', '"other"')
    (source.dags / "all.py").write_text(two)
    assert "other pipelines, too" in source.run("public.stock", "--overwrite", code=78)
    (source.dags / "all.py").unlink()
    (source.dags / "stock_etl.py").write_text(mine.format("public.other"))
    assert "→ dags/public_stock_etl.py" in source.run("public.stock")
    assert (source.dags / "stock_etl.py").read_text() == mine.format("public.other")
    assert "there is no folder nowhere here. Run it in the checkout" in source.run("x.y", "--to", "nowhere", code=78)


def test_a_pattern_takes_tables_of_a_schema_and_leaves_partitions_and_exclusions_out(source: Source) -> None:
    source.change(f"""
      CREATE SCHEMA crm; CREATE SCHEMA "Odd.Name"; {TOUCH}
      CREATE TABLE crm.parts (id int, changed_at timestamptz NOT NULL, PRIMARY KEY (id)) PARTITION BY RANGE (id);
      CREATE TABLE crm.parts_1 PARTITION OF crm.parts FOR VALUES FROM (0) TO (10);
      CREATE TABLE crm.old (id int PRIMARY KEY, changed_at timestamptz NOT NULL);
      CREATE TABLE "Odd.Name"."T a.b" (id int PRIMARY KEY, changed_at timestamptz NOT NULL);
      CREATE TABLE parts (id int PRIMARY KEY, changed_at timestamptz NOT NULL);
    """)
    for table in ("crm.parts", "crm.old", '"Odd.Name"."T a.b"', "parts"):
        source.change(f"CREATE TRIGGER touch BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION touch()")
    source.run("public.*", "crm.*", "--exclude", "crm.old", '"Odd.Name".*')
    assert {path.name for path in source.dags.iterdir()} == {"parts_etl.py", "crm_parts_etl.py", "t_a_b_etl.py"}
    assert str(source.pipeline("parts").sink) == "dbo.parts"
    assert str(source.pipeline("crm_parts").sink) == "crm.parts"
    assert str(source.pipeline("t_a_b").source) == '"Odd.Name"."T a.b"'
    assert "crm.parts_1 → dags/parts_1_etl.py" in source.run("crm.parts_1", "--sink-schema", "dbo")


@pytest.mark.parametrize(
    ("script", "key", "reason"),
    [
        ("CREATE TABLE t (id int PRIMARY KEY, n int)", ["id"], "No column grows with each change of a row."),
        ("CREATE TABLE t (id int, n int)", [], "Nothing at the source ensures a key: where rows have changed, all are"),
        ("CREATE VIEW t AS SELECT 1 AS id, 2 AS n", [], "Nothing at the source ensures a key"),
        ("CREATE TABLE t (id text PRIMARY KEY, n int NOT NULL UNIQUE); INSERT INTO t VALUES (repeat('x', 9), 1)",
         ["id"], "No column grows"),
        ("CREATE TABLE t (id int[] PRIMARY KEY, n int NOT NULL UNIQUE)", ["n"], "A unique index, since there is no"),
        (
            "CREATE TABLE t (id int PRIMARY KEY, n int, created timestamptz NOT NULL DEFAULT now(),"
            " modified timestamptz NOT NULL DEFAULT now(), seen timestamptz NOT NULL)",
            ["id"],
            "No trigger surely sets modified at each UPDATE. If your application does, say --version modified: a run",
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY, n int, changed_at timestamptz);"
            "CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch()",
            ["id"],
            "changed_at cannot be the version: it may be null.",
        ),
    ],
)  # fmt: skip
def test_a_table_without_a_version_is_replaced_as_a_whole_and_the_reason_is_said(
    source: Source, script: str, key: list[str], reason: str
) -> None:
    source.change(TOUCH + script)
    source.run("public.t")
    pipeline = source.pipeline("t")
    assert (pipeline.mode, pipeline.version, pipeline.deletes, pipeline.key) == ("replace", None, "delete", key)
    comments = " ".join((source.dags / "t_etl.py").read_text().replace("    # ", " ").split())
    assert reason in comments


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("CREATE TABLE t (id int, at timestamptz NOT NULL)", "It has no unique index"),
        ("CREATE TABLE p (id int PRIMARY KEY, at timestamptz NOT NULL); CREATE TABLE t () INHERITS (p)", "inherits"),
        ("CREATE MATERIALIZED VIEW t AS SELECT now() AS at WITH NO DATA", "has not been populated"),
        ('CREATE TABLE p (id int PRIMARY KEY, at timestamptz); ALTER TABLE p RENAME at TO "at\u0007"', "printable"),
    ],
)
def test_a_table_that_cannot_be_moved_is_refused_with_the_reason(source: Source, script: str, words: str) -> None:
    source.change(script)
    table = "public.p" if "TABLE p" in script else "public.t"
    shown = source.run(table, "--version", "at", code=78)
    assert f"refused  {table}\n" in shown
    assert words in shown
    assert list(source.dags.iterdir()) == []


def test_a_large_table_is_replaced_only_if_a_person_says_so(source: Source) -> None:
    source.change("CREATE TABLE t (id int PRIMARY KEY); UPDATE pg_class SET reltuples = 3e7 WHERE relname = 't'")
    assert "It has about 30000000 rows and no version, so each run would read them all." in source.run(
        "public.t", code=78
    )
    source.run("public.t", "--big")
    assert source.pipeline("t").mode == "replace"


def test_a_person_s_key_and_version_are_taken(source: Source) -> None:
    source.change(
        "CREATE TABLE t (a int NOT NULL, b text NOT NULL, at timestamptz NOT NULL, UNIQUE (a, b), UNIQUE (b))"
    )
    source.run("public.t", "--version", "at", "--key", "a", "--key", "b", "--deletes", "keep")
    pipeline = source.pipeline("t")
    assert (pipeline.key, pipeline.version, pipeline.deletes) == (["a", "b"], "at", "keep")
    assert pipeline.columns["b"] == "varchar(16)"


def test_columns_that_may_not_be_read_are_left_out_and_named(source: Source, postgres: Postgres) -> None:
    source.change(
        f"{STOCK} CREATE TABLE secret (a int); CREATE ROLE reader LOGIN PASSWORD 'x';"
        " GRANT SELECT (warehouse, sku, changed_at) ON stock TO reader"
    )
    try:
        source.url = source.url.replace(f"{postgres.user}:{postgres.password}@", "reader:x@")
        source.run("public.stock")
        assert list(source.pipeline("stock").columns) == ["warehouse", "sku", "changed_at"]
        assert 'Its owner runs: GRANT SELECT ON "public"."secret" TO' in source.run("public.secret", code=78)
        assert "Left out, as the source's user may not read them: counted_on, quantity" in (
            source.dags / "stock_etl.py"
        ).read_text().replace("\n    # ", " ")
    finally:
        with psycopg.connect(postgres.url(source.url.rpartition("/")[2]), autocommit=True) as connection:
            connection.execute("DROP OWNED BY reader; DROP ROLE reader")


def test_for_programs_each_table_is_a_line_of_json(source: Source) -> None:
    source.change(STOCK + "CREATE MATERIALIZED VIEW bare AS SELECT 1 AS a WITH NO DATA")
    lines = [json.loads(line) for line in source.run("public.*", "--to", "-").splitlines()]
    assert [(line["table"], line["outcome"], line["file"]) for line in lines] == [
        ("public.bare", "refused", ""), ("public.stock", "written", "stock_etl.py"),
    ]  # fmt: skip
    assert "STOCK = Pipeline(" in lines[1]["text"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("public.nothing", "The source has no table or view public.nothing"),
        ("public.STOCK", "but public.stock: names are given as they are stored"),
        ("none.*", "No table or view at the source matches none.*"),
        ("stock", "'stock' must name the schema too"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(source: Source, pattern: str, words: str) -> None:
    source.change(STOCK)
    assert words in source.run(pattern, code=78)


CLOCKS = ["now()", "clock_timestamp()", "CURRENT_TIMESTAMP", "pg_catalog.now()", "localtimestamp"]
VALUES = [*CLOCKS, "greatest(clock_timestamp(), OLD.at + interval '1 us')", "coalesce(NEW.at, now())", "OLD.at",
          "now() - interval '1 day'", "least(now(), OLD.at)", "timezone('utc', now())",
          "now() AT TIME ZONE 'Asia/Tokyo'"]  # fmt: skip
BODIES = ["NEW.at := {value};", 'NEW."at" = {value};', "IF NEW.a <> OLD.a THEN NEW.at := {value}; END IF;",
          "NEW.at := {value}; NEW.at := OLD.at;", "-- NEW.at := {value};", "/* NEW.at := {value}; */ NEW.b := 1;",
          "NEW := OLD; NEW.at := {value};", "NEW.at := {value}; NEW := OLD;", "RETURN OLD; NEW.at := {value};",
          "NEW.at := {value}; SELECT OLD.at INTO NEW.at;", "NEW.at := {value}; IF NEW.b = 1 THEN RETURN OLD; END IF;",
          "CASE WHEN NEW.b = 1 THEN NEW.at := {value}; ELSE END CASE;"]  # fmt: skip
EVENTS = ["BEFORE UPDATE ON t", "BEFORE INSERT OR UPDATE ON t", "BEFORE UPDATE OF a ON t", "AFTER UPDATE ON t",
          "BEFORE INSERT ON t"]  # fmt: skip
UPDATES = ["a = a + 1", "b = 1", "b = b", "a = a, at = at", "at = '2001-01-01'", "at = NULL, b = 1"]


@pytest.fixture(scope="module")
def trial_url(postgres: Postgres) -> Iterator[str]:
    name = f"triggers_{uuid.uuid4().hex[:8]}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@settings(max_examples=200)
@given(
    triggers=st.lists(
        st.tuples(*map(st.sampled_from, [BODIES, VALUES, EVENTS, ["", "WHEN (NEW.b = 1) "]])),
        min_size=1, max_size=2,
    ),
    kind=st.sampled_from(["timestamptz", "timestamp"]),
    disabled=st.booleans(),
    updates=st.lists(st.sampled_from(UPDATES), min_size=1, max_size=3),
)  # fmt: skip
def test_a_column_that_is_said_to_grow_is_set_by_every_update(
    trial_url: str, triggers: list[Any], kind: str, disabled: bool, updates: list[str]
) -> None:
    with psycopg.connect(trial_url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS t")
        connection.execute(f"CREATE TABLE t (a int, b int, at {kind})".encode())
        connection.execute("INSERT INTO t VALUES (1, 0, '2000-01-01')")
        for number, (body, value, event, when) in enumerate(triggers):
            whole = f"BEGIN {body.format(value=value)}\nRETURN NEW; END"
            connection.execute(
                f"CREATE OR REPLACE FUNCTION f{number}() RETURNS trigger LANGUAGE plpgsql AS $f${whole}$f$".encode()
            )
            connection.execute(
                f"CREATE TRIGGER t{number} {event} FOR EACH ROW {when}EXECUTE FUNCTION f{number}()".encode()
            )
        if disabled:
            connection.execute("ALTER TABLE t DISABLE TRIGGER t0")
        (table,) = read_tables(connection.cursor(), ["public.t"])
        said = maintained(table.triggers)
        assert set(said) <= {"at"}
        for update in updates if said else ():
            zone = "now() AT TIME ZONE 'UTC'" if kind == "timestamp" else "now()"
            ((is_set,),) = connection.execute(f"UPDATE t SET {update} RETURNING at >= {zone}".encode()).fetchall()
            assert is_set or (said["at"].in_utc and kind == "timestamptz"), (triggers, update)


def test_the_triggers_that_people_have_are_known(trial_url: str) -> None:
    bodies = ["NEW.at := {value};", 'NEW . "at" = {value} ;', "-- IF\nnew.At := {value};"]
    for body in bodies:
        for value in [*CLOCKS, VALUES[len(CLOCKS)]]:
            with psycopg.connect(trial_url, autocommit=True) as connection:
                connection.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (a int, b int, at timestamptz)")
                whole = f"BEGIN\n  {body.format(value=value)}\n  RETURN NEW;\nEND"
                connection.execute(
                    f"CREATE OR REPLACE FUNCTION f0() RETURNS trigger LANGUAGE plpgsql AS $f${whole}$f$".encode()
                )
                connection.execute("CREATE TRIGGER t0 BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f0()")
                (table,) = read_tables(connection.cursor(), ["public.t"])
            assert set(maintained(table.triggers)) == {"at"}, (body, value)
