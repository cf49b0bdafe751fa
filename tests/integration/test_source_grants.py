"""The user of SOURCE_URL, made as docs/operations.md says, can do what plan and extract do, and nothing else."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError
from etl.postgres import sql as source_sql
from etl.postgres.connection import connect_source

from dev.sandbox.pipeline_fixture import PipelineFixture, existing_fixture
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs

PASSWORD = "only-for-tests-1"
OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
MADE = OPERATIONS.partition("## Grants")[2].partition("```sql\n")[2].partition("```")[0]


@pytest.fixture
def reader(orders: PipelineFixture, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """The orders as that user reads them."""
    database, user = urlsplit(orders.source_url).path[1:], f"reader_{uuid.uuid4().hex[:8]}"
    statements = MADE.replace("DATABASE orders", f"DATABASE {database}").replace("…", PASSWORD)
    assert "GRANT SELECT ON public.orders" in statements
    for word in ("ROLE", "TO"):
        statements = statements.replace(f"{word} orders", f"{word} {user}")
    orders.change("CREATE TABLE customers (name text)")
    orders.change(statements)
    url = orders.source_url.replace(f"{postgres.user}:{postgres.password}@", f"{user}:{PASSWORD}@")
    staging = Path(orders.settings.staging_url.removeprefix("file://"))
    yield Runs(existing_fixture(orders.pipeline, url, orders.sink_url, staging), monkeypatch)
    orders.change(f"DROP OWNED BY {user}; DROP ROLE {user}")


def test_plan_and_extract_need_no_more_than_that(reader: Runs, orders: PipelineFixture) -> None:
    assert reader.run("first")["inserted"] == 1600
    orders.change("UPDATE orders SET status = 'confirmed' WHERE order_id <= 20")
    assert reader.run("second")["verdict"] == "adds up"
    assert reader.made.sink_rows() == reader.made.source_rows("status = 'confirmed'")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO orders (customer, currency, amount) VALUES ('Eve', 'EUR', 1)",
        "UPDATE orders SET amount = 0",
        "DELETE FROM orders",
        "TRUNCATE orders",
        "SELECT * FROM orders FOR UPDATE",
        "DROP TABLE orders",
        "ALTER TABLE orders ADD COLUMN mine text",
        "CREATE TABLE public.mine (n int)",
        "CREATE TEMPORARY TABLE mine (n int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TRIGGER mine BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch_updated_at()",
        "SELECT * FROM customers",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_read_file('PG_VERSION')",
        "COPY orders TO PROGRAM 'cat'",
        "CREATE ROLE mine",
        "SELECT nextval('orders_order_id_seq')",
    ],
)
def test_all_else_is_refused(reader: Runs, statement: str) -> None:
    rows = reader.made.source_rows()
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
        reader.made.change(statement)
    with psycopg.connect(reader.made.source_url, autocommit=True) as connection:
        # Whoever has the password may ask for a transaction that writes.
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())
    assert reader.made.source_rows() == rows


def test_a_right_that_is_missing_is_told(reader: Runs, orders: PipelineFixture) -> None:
    partitions = reader.plan()
    orders.change(f"REVOKE ALL ON orders FROM {urlsplit(reader.made.source_url).username}")
    with pytest.raises(AirflowFailException, match="permission denied for table orders"):
        reader.plan()
    with pytest.raises(ConfigurationError, match="permission denied for table orders"):
        reader.steps("run", partitions)


def test_rows_that_row_level_security_hides_are_not_missing_in_a_green_run(
    reader: Runs, orders: PipelineFixture
) -> None:
    user = urlsplit(reader.made.source_url).username
    partitions = reader.plan()
    orders.change("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    orders.change(f"CREATE POLICY half ON orders TO {user} USING (order_id % 2 = 0)")
    told = f"row-level security of public.orders decides which rows the user {user} sees"
    with pytest.raises(AirflowFailException, match=told):
        reader.plan()
    with pytest.raises(ConfigurationError, match=told):
        reader.steps("run", partitions)
    assert not reader.made.sink_exists()


@pytest.mark.parametrize(
    "statement", ["ALTER ROLE {user} BYPASSRLS", "CREATE POLICY etl ON orders FOR SELECT TO {user} USING (true)"]
)
def test_what_the_message_says_to_do_then_shows_all_rows(reader: Runs, orders: PipelineFixture, statement: str) -> None:
    user = urlsplit(reader.made.source_url).username
    orders.change("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    with pytest.raises(AirflowFailException) as caught:
        reader.plan()
    told = statement.format(user=f'"{user}"').replace(" orders ", ' "public"."orders" ')
    assert told in str(caught.value)
    orders.change(told)
    orders.change(f"CREATE POLICY half ON orders TO {user} USING (order_id % 2 = 0)")
    assert reader.run("first")["inserted"] == 1600
    orders.change(f"CREATE POLICY strict ON orders AS RESTRICTIVE TO {user} USING (order_id < 100)")
    if "POLICY" in statement:
        with pytest.raises(AirflowFailException, match="row-level security"):
            reader.plan(full_refresh=True)


def test_a_read_that_a_policy_would_cut_short_is_refused_by_the_source_too(
    reader: Runs, orders: PipelineFixture
) -> None:
    """A difference that the check does not see, such as a policy added in between."""
    orders.change("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    with psycopg.connect(reader.made.source_url) as connection:
        for statement in source_sql.SESSION:
            connection.execute(statement)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            connection.execute("SELECT count(*) FROM orders")


def test_no_timeout_of_the_user_ends_a_long_read(reader: Runs, orders: PipelineFixture) -> None:
    names = ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
    for name in names:
        orders.change(f"ALTER ROLE {urlsplit(reader.made.source_url).username} SET {name} = '1h'")
    work = reader.made.work()
    with connect_source(work.settings, work.pipeline, str(work)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT name, setting FROM pg_settings WHERE name IN {names}")
        assert sorted(cursor.fetchall()) == sorted((name, "0") for name in names)
