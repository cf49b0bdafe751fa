"""An expression means to the loader what it means to Postgres: operators bind alike, with no parentheses to help."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from etl.model.expression import parse_expression
from etl.postgres.expression import render
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dev.sandbox.postgres import Postgres

VALUES = ("i", "j", "t", "u", "b", "c", "d", "at", "day", "1", "'x'", "2.5", "lower(t)", "coalesce(i, j)", "doc")
BEFORE = ("", "", "", "-", "NOT ", "NOT - ")
AFTER = ("", "", "", "::text", "::integer", " IS NULL", " IS NOT NULL", " ->> 'k'", " ->> 1", " AT TIME ZONE 'UTC'")
BETWEEN = ("+", "-", "*", "||", "=", "<>", "<", ">=", "AND", "OR", "LIKE", "NOT LIKE", "BETWEEN i AND", "BETWEEN t AND")


@st.composite
def chains(draw: st.DrawFn) -> str:
    """Values with operators between them, without parentheses."""
    parts = ["".join(map(draw, map(st.sampled_from, (BEFORE, VALUES, AFTER)))) for _ in range(draw(st.integers(2, 4)))]
    return parts[0] + "".join(f" {draw(st.sampled_from(BETWEEN))} {part}" for part in parts[1:])


@pytest.fixture(scope="module")
def source(postgres: Postgres) -> Iterator[psycopg.Connection]:
    name = f"expressions_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres.create_database(name), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE t (i integer, j integer, t text, u text, b boolean, c boolean, d jsonb, doc jsonb,"
            " at timestamptz, day timestamp)"
        )
        yield connection
    postgres.drop_database(name)


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=chains())
def test_an_expression_means_what_it_means_to_postgres(source: psycopg.Connection, text: str) -> None:
    try:
        rendered = render(parse_expression(text))
    except ValueError:
        return
    if wanted := plan(source, text):
        assert plan(source, rendered) == wanted


def plan(source: psycopg.Connection, expression: str) -> str:
    """The plan of Postgres for an expression; empty if it refuses it."""
    try:
        rows = source.execute(f"EXPLAIN (VERBOSE, COSTS OFF) SELECT {expression} FROM t".encode()).fetchall()
    except psycopg.Error:
        return ""
    return "\n".join(line for (line,) in rows)
