"""An expression of a column has what is known to have one value for a row; all else is refused."""

import pytest
from etl.model.expression import parse_expression
from etl.postgres.expression import render


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("lower(a) || 'x'", """(pg_catalog.lower("a") OPERATOR(pg_catalog.||) E'x')"""),
        ("a - -2 * b", '("a" OPERATOR(pg_catalog.-) ((OPERATOR(pg_catalog.-) 2) OPERATOR(pg_catalog.*) "b"))'),
        ("a::varchar(3)", 'CAST("a" AS pg_catalog.varchar(3))'),
        ("CAST(a AS numeric(9,2))", 'CAST("a" AS pg_catalog.numeric(9,2))'),
        ("nullif(a, 0)", 'CASE WHEN ("a" OPERATOR(pg_catalog.=) 0) THEN NULL ELSE "a" END'),
        ("CASE a WHEN 1 THEN 'x' END", """CASE WHEN ("a" OPERATOR(pg_catalog.=) 1) THEN E'x' ELSE NULL END"""),
        ("a NOT IN (1, 2)", '(NOT (("a" OPERATOR(pg_catalog.=) 1) OR ("a" OPERATOR(pg_catalog.=) 2)))'),
        ("EXTRACT(year FROM at)", 'EXTRACT(year FROM "at")'),
        ("at AT TIME ZONE 'Asia/Tokyo'", """("at" AT TIME ZONE E'Asia/Tokyo')"""),
        ("doc ->> 'a'", """("doc" OPERATOR(pg_catalog.->>) E'a')"""),
        ('"user"', '"user"'),
        ('trim("A b")', 'pg_catalog.btrim("A b")'),
        ("a IS NOT NULL", '(NOT ("a" IS NULL))'),
    ],
)
def test_functions_and_operators_are_those_of_postgres_itself(text: str, sql: str) -> None:
    assert render(parse_expression(text)) == sql


@pytest.mark.parametrize(
    "text",
    [
        "(SELECT 1)", "a IN (SELECT 1)", "EXISTS (SELECT a)", "now()", "random() * a", "clock_timestamp()", "a / 2",
        "current_user", "user", "current_date", "my.lower(a)", '"lower"(a)', "pg_read_file(a)", "t.a", "*", "a::mood",
        "a::interval", "a::timestamp(0)", "a::text[]", "a::varchar(3)[]", "a AT TIME ZONE zone", "doc -> 'a'",
        "doc ->> key", "a; b",
        "lower(a, b)", "left(a)", "count(a)", "sum(a) OVER ()", "lower(DISTINCT a)", 'a COLLATE "C"', "1e5 + a",
        "a BETWEEN SYMMETRIC 1 AND 2", "a LIKE 'x' ESCAPE '!'", "$1", ":a", "ARRAY[a]", "(a, b)", "a[1]",
        "INTERVAL '1 day' + a", "a ~ 'x'", "a IS DISTINCT FROM b", "nextval('s') + a", "'a' || 'b'", "", "a AS b",
        "a = b = c", "a = NOT b", "NOT a IS NULL || b IS NULL",
        "lower(a) FILTER (WHERE true)", "coalesce(a, 'now'::timestamptz)", "a < 'Today 12:00'", "date 'tomorrow' - a",
    ],
)  # fmt: skip
def test_what_may_have_other_values_elsewhere_or_later_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="'"):
        parse_expression(text)


@pytest.mark.parametrize(
    "text", ["(" * 200 + "a" + ")" * 200, "nullif(" * 35 + "a" + ", 1)" * 35], ids=["parentheses", "written twice"]
)
def test_an_expression_that_nests_too_deeply_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_expression(text)
