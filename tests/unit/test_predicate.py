"""A filter is one expression of known columns that means the same in Postgres, DuckDB and SQL Server."""

import pytest
from etl.model.column_types import parse_column_type
from etl.model.predicate import compared_columns, parse_predicate, predicate_columns
from etl.model.predicate_sql import render_tsql
from etl.postgres.filter import pushdown_condition

from dev.sandbox.pipelines import ORDERS, make

COLUMNS = {
    name: parse_column_type(declared)
    for name, declared in {
        "status": "text",
        "count": "integer",
        "big": "bigint",
        "amount": "numeric(9,2)",
        "exact": "numeric(38,38)",
        "a": "numeric(20,10)",
        "b": "numeric(20,10)",
        "active": "boolean",
        "gone": "boolean null",
        "note": "text null",
        "code": "char(3)",
        "word": "varchar(10)",
        "long": "varchar(4000)",
        "id": "uuid",
        "day": "date",
        "clock": "time",
        "at": "timestamptz",
        "local": "timestamp",
        "ratio": "double precision null",
        "half": "real",
        "doc": "jsonb null",
        "raw": "bytea",
        "more": "bytea",
        "user": "text",
    }.items()
}
BINARY = "COLLATE Latin1_General_BIN2"


@pytest.mark.parametrize(
    ("text", "tsql"),
    [
        ("status = 'confirmed'", f"[status] {BINARY} + N'|' = N'confirmed|'"),
        (
            "status IN ('a', 'b') AND NOT count > 1",
            f"[status] {BINARY} + N'|' IN (N'a|', N'b|') AND NOT ([count] > 1)",
        ),
        ("active", "[active] = 1"),
        ("status = 'a' AND (active)", f"[status] {BINARY} + N'|' = N'a|' AND [active] = 1"),
        ("NOT (gone)", "NOT ([gone] = 1)"),
        ("active AND amount <> 0", "[active] = 1 AND [amount] <> CAST(0 AS decimal(1,0))"),
        ("note IS NOT NULL OR count BETWEEN 1 AND 2", "NOT ([note] IS NULL) OR [count] BETWEEN 1 AND 2"),
        ("(active OR gone) AND true", "([active] = 1 OR [gone] = 1) AND 1 = 1"),
        ("NOT active OR true", "NOT ([active] = 1) OR 1 = 1"),
        ("active = true", "[active] = 1"),
        ("active <> false", "[active] <> 0"),
        ("active > false", "[active] > 0"),
        ("active = gone", "[active] = [gone]"),
        ("gone IS NOT TRUE", "NOT (([gone] = 1 AND [gone] IS NOT NULL))"),
        ("coalesce(gone, false)", "COALESCE([gone], 0) = 1"),
        ("at >= '2026-01-31'", "[at] >= CAST(N'2026-01-31 00:00:00.000000' AS datetime2(6))"),
        ("day = '2026-01-31'", "[day] = CAST(N'2026-01-31' AS date)"),
        ("status = 'Дмитрий'", f"[status] {BINARY} + N'|' = N'Дмитрий|'"),
        ("code LIKE 'E%'", f"RTRIM([code]) {BINARY} LIKE N'E%'"),
        ("coalesce(note, 'x') <> word", f"COALESCE([note] {BINARY}, N'x') + N'|' <> [word] {BINARY} + N'|'"),
        ("long = 'a'", f"CAST([long] {BINARY} AS nvarchar(max)) + N'|' = N'a|'"),
        ("active /* it */ AND -- '; DROP TABLE orders /*\n true", "[active] = 1 AND 1 = 1"),
        ("NOT doc LIKE '%\"Test\"%'", f"""NOT ([doc] {BINARY} LIKE N'%"Test"%')"""),
        ("raw IS NOT NULL", "NOT ([raw] IS NULL)"),
        ("note NOT LIKE 'it''s %'", f"NOT ([note] {BINARY} LIKE N'it''s %')"),
        (
            "lower(word) = 'x'",
            f"TRANSLATE([word] {BINARY}, N'ABCDEFGHIJKLMNOPQRSTUVWXYZ', N'abcdefghijklmnopqrstuvwxyz') + N'|' = N'x|'",
        ),
        ("amount * 2 > 10", "([amount] * CAST(2 AS decimal(1,0))) > CAST(10 AS decimal(2,0))"),
        (
            "count + 1 > big",
            "(CAST([count] AS decimal(10,0)) + CAST(1 AS decimal(1,0))) > CAST([big] AS decimal(19,0))",
        ),
        ("coalesce(amount, 0) > 5", "COALESCE([amount], CAST(0 AS decimal(9,2))) > CAST(5 AS decimal(1,0))"),
        ("big < 3000000000", "[big] < CAST(3000000000 AS bigint)"),
        ("amount > 1e3", "[amount] > CAST(1000 AS decimal(4,0))"),
        ("id = '00000000-0000-0000-0000-00000000000A'", "[id] = CAST(N'00000000-0000-0000-0000-00000000000a'"
         " AS uniqueidentifier)"),
        ("ratio > 0.5", "[ratio] > (CAST(CAST(1 AS bigint) AS float(53)) / CAST(CAST(2 AS bigint) AS float(53)))"),
        ('"user" = \'x\'', f"[user] {BINARY} + N'|' = N'x|'"),
    ],
)  # fmt: skip
def test_a_filter_is_rendered_for_sql_server(text: str, tsql: str) -> None:
    assert render_tsql(parse_predicate(text, COLUMNS)) == tsql


@pytest.mark.parametrize(
    "text",
    [
        "",
        "status =",
        "status = 'a'; DROP TABLE orders",
        "status = 'a' -- comment\n; SELECT 1",
        "state = 'a'",
        "orders.status = 'a'",
        "status IN (SELECT status FROM orders)",
        "EXISTS (SELECT 1)",
        "pg_sleep(10) IS NULL",
        "status ~ 'a.*'",
        "now() > amount",
        "status || 'x' = 'ax'",
        "amount + 1",
        "'confirmed'",
        "$1 = status",
        "(amount > 1) = active",
        "status = ANY (ARRAY['a'])",
        "status = 'a\0'",
        "status = 'a\\\nb'",
        "status = '\ud800'",
        "count BETWEEN SYMMETRIC 2 AND 1",
        "status LIKE 'a!%' ESCAPE '!'",
        "lower(status) IS NULL",
        "NOT " * 1000 + "active",
        "(" * 1000 + "active" + ")" * 1000,
        " OR ".join(["amount = 1"] * 5000),
        "amount = 1" + " + 1" * 5000,
    ],
)
def test_anything_else_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"'|unknown column"):
        parse_predicate(text, COLUMNS)


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("status = NULL", "write … IS NULL"),
        ("status IN ('a', NULL)", "write … IS NULL"),
        ("status IN ()", "never true; write false"),
        ("1 = 1", "write true or false"),
        ("status", "compare it"),
        ("status ILIKE 'a'", r"write lower\(…\) LIKE"),
        ("status::int = 1", "write the value as a plain text"),
        ("day = date '2026-01-31'", "write the value as a plain text"),
        ("status IS DISTINCT FROM 'a'", "write … <> …, and … IS NULL"),
        # Text: one collation, no code page, no padding.
        ("status > 'a'", "compare it by =, <>, IN or LIKE"),
        ("status BETWEEN 'a' AND 'b'", "compare it by =, <>, IN or LIKE"),
        ("status = 'a '", "leave the space out"),
        ("status = 5", "written in quotes"),
        ("word = code", "declare both as one type"),
        ("coalesce(code, word) = 'a'", "declare both as one type"),
        ("lower(status) = 'é'", "plain texts of ASCII letters"),
        ("upper(status) = lower(word)", "plain texts of ASCII letters"),
        ("note LIKE '50\\%'", "write % there"),
        ("note LIKE '[c]%'", "write % there"),
        ("note LIKE '_'", "write % there"),
        ("NOT code LIKE 'E_R%'", "write % there"),
        ("note LIKE status", "write % there"),
        ("code LIKE '%R'", "end the pattern with %"),
        ("code LIKE 'R %'", "end the pattern with %, without a space"),
        (f"note LIKE '{'x' * 4001}'", "4000 characters at most"),
        ("\"user\" = 'a' AND user = 'a'", 'write the column as "user"'),
        # Documents and bytes.
        ("doc = '{}'", "write LIKE or IS NULL"),
        ("doc > '{}'", "write LIKE or IS NULL"),
        ("raw <> 'x'", "only whether they are null"),
        ("raw IN ('x')", "only whether they are null"),
        ("raw LIKE 'x%'", "only whether they are null"),
        ("raw = note", "compare columns of one kind"),
        ("raw = more", "only whether they are null"),
        ("coalesce(raw, more) = raw", "only whether they are null"),
        # Booleans are no numbers and no texts.
        ("active LIKE 't%'", "in quotes|true or false"),
        ("active = 1", "write true or false"),
        ("active = 'true'", "write true or false"),
        ("active = status", "compare columns of one kind"),
        # uuids: SQL Server orders the last bytes first.
        ("id > '7fffffff-0000-0000-0000-000000000002'", "compare them by =, <> or IN"),
        ("id = '{00000000-0000-0000-0000-00000000000a}'", "write it as '00000000-"),
        # Times.
        ("day = 'infinity'", "rows with an infinite time are rejected"),
        ("at < '-infinity'", "rows with an infinite time are rejected"),
        ("clock = '24:00:00'", "ends at '23:59:59.999999'"),
        ("at < '2026-01-02T00:00:00+02:00'", "in UTC, without an offset"),
        ("at < 'yesterday'", "write it as '2026-01-31 12:00:00', in UTC"),
        ("local = '20260131'", "write it as '2026-01-31 12:00:00'"),
        ("at = '2026-01-31 12:00:00.1234567'", "write it as"),
        ("day = '2026-1-5'", "write it as '2026-01-31'"),
        ("day = '2026-02-30'", "write it as '2026-01-31'"),
        ("day = at", "compare columns of one kind"),
        ("local = at", "compare columns of one kind"),
        # Numbers: exact, or in no case rounded.
        ("count = '5'", "without quotes"),
        ("amount > 123456789012345678901234567890123456789", "38 digits at most"),
        ("amount > 1e400", "38 digits at most"),
        ("exact < 5", "38 digits at most"),
        ("a * b < 1", "compare the columns themselves, or declare fewer digits"),
        ("big * big > 1", "declare fewer digits"),
        ("amount / 2 = 1", "multiply the other side"),
        ("ratio + 1 > 2", "only numbers that are exact"),
        ("day + 1 > '2026-01-01'", "only numbers that are exact"),
        ("coalesce(amount) = 1", "needs two values"),
        ("amount > 2 * 3", "write the result"),
        ("ratio > 0.1234567890123456", "15 digits at most"),
        ("half IN (0.1, 0.2)", "compare by <, > or BETWEEN"),
        ("coalesce(half, 0) = 1", "write … = … OR … IS NULL"),
        ("amount + 1 IS NULL", "of a column alone"),
    ],
)
def test_what_may_be_decided_otherwise_is_refused_and_says_what_to_write(text: str, instead: str) -> None:
    with pytest.raises(ValueError, match=instead):
        parse_predicate(text, COLUMNS)


def test_the_columns_of_a_filter_are_known() -> None:
    predicate = parse_predicate("status = 'a' OR abs(amount) > 1 OR note IS NULL", COLUMNS)
    assert predicate_columns(predicate) == {"status", "amount", "note"}
    assert compared_columns(predicate) == {"status", "amount"}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("status = 'it''s \\'", """(("status"::text COLLATE "C") = E'it''s \\\\'::text)"""),
        ("currency = 'EUR'", """(("currency"::text COLLATE "C") = E'EUR'::text)"""),
        ("created_at > '2026-01-31'", """("created_at" > E'2026-01-31 00:00:00.000000+00'::timestamptz)"""),
        ("NOT amount IN (1, -2.5)", """(NOT ("amount" IN (1, -2.5)))"""),
        ("order_id + 1 > 5", """((("order_id")::numeric + 1) > 5)"""),
        ("lower(status) = 'a'", """(lower(("status"::text COLLATE "C") COLLATE "C") = E'a'::text)"""),
    ],
)
def test_it_is_rendered_for_postgres(text: str, rendered: str) -> None:
    assert pushdown_condition(make(ORDERS, filter=text, pushdown=True), {}).startswith(rendered)


def test_a_document_is_not_written_as_text_to_see_whether_it_is_null() -> None:
    columns = {**ORDERS["columns"], "doc": "jsonb null"}
    assert (
        pushdown_condition(make(ORDERS, columns=columns, filter="NOT doc IS NULL", pushdown=True), {})
        == '(NOT ("doc" IS NULL))'
    )


def test_a_column_alone_is_a_filter() -> None:
    columns = {**ORDERS["columns"], "active": "boolean null"}
    assert pushdown_condition(make(ORDERS, columns=columns, filter="active", pushdown=True), {}) == '("active")'
