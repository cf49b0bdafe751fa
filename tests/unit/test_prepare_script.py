"""docs/prepare-sink.sql, which an administrator reviews, has the statements that `etl prepare-sink` sends."""

from pathlib import Path

from etl.sqlserver import prepare_sql
from orders_etl import ORDERS

from dev.prepare_script import URL, script

REVIEWED = Path(__file__).resolve().parents[2] / "docs" / "prepare-sink.sql"


def test_the_script_for_review_has_the_statements_that_are_sent() -> None:
    assert script(URL, [ORDERS]) == REVIEWED.read_text(), "python -m dev.prepare_script > docs/prepare-sink.sql"


def test_it_has_every_grant_of_the_loader() -> None:
    statements = REVIEWED.read_text().splitlines()
    assert [f"{grant};" for grant in prepare_sql.grants([ORDERS])] == [
        line for line in statements if line.endswith("[etl_loader];") and line.startswith(("GRANT", "REVOKE"))
    ]
