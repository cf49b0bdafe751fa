"""The user of SOURCE_URL, made as docs/operations.md says, can do what plan and extract do, and nothing else."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError

from tests.support.postgres import Postgres
from tests.support.runs import Runs
from tests.support.site import Site, existing_site

PASSWORD = "only-for-tests-1"
OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
MADE = OPERATIONS.partition("## Grants")[2].partition("```sql\n")[2].partition("```")[0]


@pytest.fixture
def reader(orders: Site, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
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
    yield Runs(existing_site(orders.pipeline, url, orders.sink_url, staging), monkeypatch)
    orders.change(f"DROP OWNED BY {user}; DROP ROLE {user}")


def test_plan_and_extract_need_no_more_than_that(reader: Runs, orders: Site) -> None:
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


def test_a_right_that_is_missing_is_told(reader: Runs, orders: Site) -> None:
    partitions = reader.plan()
    orders.change(f"REVOKE ALL ON orders FROM {urlsplit(reader.made.source_url).username}")
    with pytest.raises(AirflowFailException, match="permission denied for table orders"):
        reader.plan()
    with pytest.raises(ConfigurationError, match="permission denied for table orders"):
        reader.steps("run", partitions)
