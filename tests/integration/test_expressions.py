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

CHAINS = {
    "numbers": (("i", "j", "2"), ("", "", "", "-"), ("", "", "", "::text"), ("+", "-", "*", "||", "=", "<")),
    "texts": (("t", "u", "doc"), ("",), ("", " ->> 'k'", " IS NULL"), ("||", "||", "LIKE", "NOT LIKE", "=")),
    "conditions": (("b", "i"), ("", "NOT "), ("", " IS NULL"), ("AND", "OR", "=", "<>", "BETWEEN j AND")),
    "all": (
        ("i", "t", "b", "doc", "at"), ("", "-", "NOT "), ("", "::text", " IS NOT NULL", " AT TIME ZONE 'UTC'"),
        ("+", "||", "=", "AND", "LIKE", "BETWEEN t AND"),
    ),
}  # fmt: skip
"""Values, signs before and after them, and operators between."""


@st.composite
def chains(draw: st.DrawFn) -> str:
    """Values with operators between them, without parentheses."""
    values, before, after, operators = CHAINS[draw(st.sampled_from(sorted(CHAINS)))]
    part = st.tuples(st.sampled_from(before), st.sampled_from(values), st.sampled_from(after)).map("".join)
    rest = st.lists(st.tuples(st.sampled_from(operators), part).map(" ".join), min_size=1, max_size=4)
    return " ".join([draw(part), *draw(rest)])


@pytest.fixture(scope="module")
def source(postgres: Postgres) -> Iterator[psycopg.Connection]:
    name = f"expressions_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres.create_database(name), autocommit=True) as connection:
        connection.execute("CREATE TABLE t (i int, j int, t text, u text, b boolean, doc jsonb, at timestamptz)")
        yield connection
    postgres.drop_database(name)


@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
