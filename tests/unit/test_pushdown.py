"""A filter may run at the source where Postgres decides as the engine does; anything else is refused in words."""

import pytest
from etl.column_types import parse_column_type
from etl.predicate import parse_predicate
from etl.pushdown import check_pushdown
from etl.source_filter import wanted

from tests.support.pipelines import ORDERS, make

COLUMNS = {
    name: parse_column_type(declared)
    for name, declared in {
        "status": "text",
        "code": "char(3)",
        "count": "integer",
        "amount": "numeric(9,2)",
        "exact": "numeric(38,38)",
        "ratio": "double precision null",
        "active": "boolean",
        "id": "uuid",
        "day": "date",
        "at": "timestamptz",
        "local": "timestamp",
        "doc": "jsonb null",
    }.items()
}


@pytest.mark.parametrize(
    "text",
    [
        "active AND NOT status IN ('a', 'b') OR code LIKE 'E%R'",
        "amount >= -1.50 AND count BETWEEN 1 AND 5",
        "(status) = ('a')",
        "status = code",
        "active = true OR true",
        "ratio IS NULL OR doc IS NOT NULL",
        "day > '2026-01-31' AND at <= '2026-01-31 12:00' AND id = '00000000-0000-0000-0000-00000000000A'",
    ],
)
def test_plain_comparisons_may_run_at_the_source(text: str) -> None:
    check_pushdown(parse_predicate(text, COLUMNS), COLUMNS)


@pytest.mark.parametrize(
    "text",
    [
        "lower(status) = 'a'",
        "upper(status) = 'A'",
        "amount + 1 > 5",
        "abs(amount) > 5",
        "- amount > 5",
        "coalesce(status, '') = ''",
        "lower(status) IS NULL",
        "ratio > 1",
        "doc = '{}'",
        "count > 1.5",
        "count = 1000000000000000000",
        "count = '5'",
        "count = amount",
        "amount > 1e5",
        "amount = '5'",
        "amount > 0.00000000000000000000000000000000000001",
        "exact < 5",
        "status = 5",
        "active = 1",
        "active > false",
        "id > '00000000-0000-0000-0000-00000000000a'",
        "id = '{00000000-0000-0000-0000-00000000000a}'",
        "day = '2026-1-5'",
        "day = 'today'",
        "day = at",
        "local = at",
        "at = '20260131'",
        "at = '2026-01-31 12:00:00.1234567'",
        "1 = 1",
        "'a' < 'b'",
    ],
)
def test_what_may_be_decided_otherwise_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="cannot run at the source with the same outcome"):
        check_pushdown(parse_predicate(text, COLUMNS), COLUMNS)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("status = 'it''s \\'", """(("status"::text COLLATE "C") = E'it''s \\\\'::text)"""),
        ("currency = 'EUR'", """(("currency"::text COLLATE "C") = E'EUR'::text)"""),
        ("created_at > '2026-01-31'", """("created_at" > E'2026-01-31 00:00:00+00'::timestamptz)"""),
        ("NOT amount IN (1, -2.5)", """(NOT "amount" IN (1, -2.5))"""),
    ],
)
def test_it_is_rendered_for_postgres(text: str, rendered: str) -> None:
    assert wanted(make(ORDERS, filter=text, pushdown=True)).startswith(rendered)


def test_a_document_is_not_written_as_text_to_see_whether_it_is_null() -> None:
    columns = {**ORDERS["columns"], "doc": "jsonb null"}
    assert wanted(make(ORDERS, columns=columns, filter="NOT doc IS NULL", pushdown=True)) == '(NOT "doc" IS NULL)'


def test_a_column_alone_is_a_filter() -> None:
    columns = {**ORDERS["columns"], "active": "boolean null"}
    assert wanted(make(ORDERS, columns=columns, filter="active", pushdown=True)) == '("active")'
