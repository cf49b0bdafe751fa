"""`make demo`, as in the README: two runs that add up, and a statement that the sink is a double."""

import io
import os
import re
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from etl.errors import ConfigurationError
from rich.console import Console

from dev import demo, own_tables, query
from dev.sandbox.pipeline_fixture import existing_fixture
from dev.sandbox.pipelines import ORDERS, make
from dev.sandbox.postgres import Postgres
from dev.sandbox.process import free_port
from dev.sandbox.stack import INIT_SQL, ROOT, run_stack


def test_the_demo_runs_twice_adds_up_and_says_what_its_sink_is() -> None:
    completed = subprocess.run(
        ["make", "demo"], cwd=ROOT, env=os.environ | {"COLUMNS": "140"}, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert completed.stdout.count("adds up") >= 2
    assert "Everything adds up" in completed.stdout
    (changed,) = re.findall(r"500 changes to (\d+) orders", completed.stdout)
    (_, extracted) = re.findall(r"│ extracted │ +([\d,]+) │ +(\d+) │", completed.stdout)[0]
    assert changed == extracted
    assert ("not SQL Server" in completed.stdout) == ("SINK_URL" not in os.environ)


def test_the_demo_stops_with_its_first_failed_run_and_says_why() -> None:
    def run_dag(dag_id: str, *, retry: bool) -> Any:
        assert (dag_id, retry) == ("orders_etl", False)
        return {"run_id": "one", "state": "failed", "tasks": {}, "why": ["No connection to the sink db:1433."]}

    stack: Any = SimpleNamespace(run_dag=run_dag)
    site: Any = None
    with pytest.raises(RuntimeError, match=r"the run one failed\. No connection to the sink db:1433\."):
        demo._run(Console(file=io.StringIO()), stack, site, "initial load", {})


def test_dev_reads_the_postgres_that_source_url_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one it uses its own orders, whatever a shell has set for a deployment."""
    theirs = "postgresql://reader@db.example.com/shop"
    monkeypatch.setenv("SOURCE_PASSWORD", "of-theirs")
    with run_stack(tmp_path, theirs) as stack:
        assert (stack.source_url, stack.environment["SOURCE_URL"]) == (theirs, theirs)
        assert os.environ["SOURCE_PASSWORD"] == "of-theirs"
    with run_stack(tmp_path) as stack, psycopg.connect(stack.source_url) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchall() == [(4000,)]
        assert "SOURCE_PASSWORD" not in os.environ


def test_the_demo_moves_tables_of_your_own_and_asks_before_it_writes_to_a_server_of_yours(
    postgres: Postgres, sink_url: str
) -> None:
    """Without a terminal it stops there, unless YES agrees."""
    name = f"demo_{os.getpid()}"
    url = postgres.create_database(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE plain (id int PRIMARY KEY, changed timestamptz NOT NULL)")
        connection.execute(
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.changed = now(); RETURN NEW; END'"
        )
        connection.execute("CREATE TRIGGER touch BEFORE UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION touch()")
        connection.execute("INSERT INTO plain SELECT g, now() FROM generate_series(1, 1234) AS g")
    environment = os.environ | {"SOURCE_URL": url, "TABLES": "public.plain", "COLUMNS": "140", "YES": ""}
    environment.pop("SINK_URL", None)
    command = ["make", "--silent", "demo"]
    password = urlsplit(sink_url).password or ""
    theirs = {"SINK_URL": sink_url.replace(f":{password}@", "@"), "SINK_PASSWORD": unquote(password)}
    asked = subprocess.run(
        command, cwd=ROOT, env=environment | theirs, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert asked.returncode, asked.stdout
    assert "the tables dbo.plain. They stay." in asked.stdout
    assert "Nothing was changed. Run it with YES=1 to go on." in asked.stdout
    # A password of another sink that the shell has for a deployment.
    environment |= {"SINK_PASSWORD": "of-theirs", "COLUMNS": "80"}
    moved = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert re.search(r"│ dbo.plain │ success │ 1,234 +│ 0 +│ 1,234 ", moved.stdout), moved.stdout
    postgres.drop_database(name)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"TABLES": "public.plain"}, "The demo failed: TABLES needs SOURCE_URL, the Postgres that has them."),
        ({"SOURCE_URL": "mysql://reader@db.example.com/shop"}, "SOURCE_URL"),
        ({"SINK_URL": "mssql://db.example.com"}, "SINK_URL"),
    ],
)
def test_the_demo_starts_no_server_for_variables_that_no_run_could_use(
    variables: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SOURCE_URL", "SINK_URL", "TABLES"):
        monkeypatch.setenv(name, variables.get(name, ""))
    assert demo.main() == 1
    said = capsys.readouterr().out
    assert told in said
    assert "Starting" not in said


def test_the_demo_says_so_if_the_file_of_its_example_is_for_another_table(
    tmp_path: Path, sink_url: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = demo.EXAMPLE.read_text().replace('"amount"', '"total"')
    monkeypatch.setattr(demo, "EXAMPLE", tmp_path / "orders_etl.py")
    demo.EXAMPLE.write_text(text)
    name = f"example_{os.getpid()}"
    stack: Any = SimpleNamespace(source_url=postgres.create_database(name, INIT_SQL), sink_url=sink_url)
    with pytest.raises(
        ConfigurationError, match=r"is not the example any more, .* has no column total\. .* SOURCE_URL"
    ):
        demo._example(stack)
    demo.EXAMPLE.unlink()
    with pytest.raises(ConfigurationError, match=r"is not the example any more, .* cannot be read"):
        demo._example(stack)
    postgres.drop_database(name)


def test_rows_of_the_sink_can_be_looked_at(sink_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert query.main(sink_url, "SELECT CAST(NULL AS int) AS nothing, N'ü' AS letter") == 0
    assert re.search(r"nothing ┃ letter.*NULL +│ ü", capsys.readouterr().out, re.DOTALL)
    assert query.main(sink_url, "SELECT * FROM dbo.no_such_table") == 1
    assert "The query failed: " in capsys.readouterr().out


def test_the_demo_never_touches_rows_of_yours_that_no_demo_made(sink_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even with YES=1; it goes on where a demo has made them."""
    monkeypatch.setenv("YES", "1")
    name = f"own_{os.getpid()}"
    pipeline = make(ORDERS, name=name, sink=f"{name}.t")
    site = existing_fixture(pipeline, "postgresql://reader@db.example.com/shop", sink_url)
    stack: Any = SimpleNamespace(source_url=site.source_url, sink_url=sink_url, sink_is_double=False)

    def agreed() -> tuple[bool, str]:
        said = io.StringIO()
        return own_tables._is_agreed(Console(file=said, width=400), stack, [pipeline]), said.getvalue()

    assert f"schemas etl, etl_staging and {name}," in agreed()[1]
    site.execute(f"DELETE FROM {own_tables._MADE} WHERE [name] = N'{pipeline.sink}'")
    site.execute(f"CREATE SCHEMA [{name}]")
    site.execute(f"CREATE TABLE [{name}].[t] ([mine] int NOT NULL)")
    assert agreed()[0]  # it has no rows
    site.execute(f"INSERT INTO [{name}].[t] ([mine]) VALUES (1)")
    assert agreed()[0]  # a demo made it
    site.execute(f"DELETE FROM {own_tables._MADE} WHERE [name] = N'{pipeline.sink}'")
    goes_on, said = agreed()
    assert not goes_on
    assert f"There are rows already in {name}.t, and no demo made them: they would be changed, or deleted" in said
    assert site.query(f"SELECT [mine] FROM [{name}].[t]") == [(1,)]
    site.execute(f"DROP TABLE [{name}].[t]; DROP TABLE {own_tables._MADE}")
    site.execute(f"DROP SCHEMA [{name}]")


def test_dev_is_at_one_port_unless_another_program_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert free_port(port) > port
    assert free_port(port) == port
