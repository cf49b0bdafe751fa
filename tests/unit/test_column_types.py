"""A column type is written as in Postgres and becomes the SQL Server type that carries it exactly."""

import pytest
from etl.column_types import parse_column_type


@pytest.mark.parametrize(
    ("declared", "tsql"),
    [
        ("smallint", "smallint"),
        ("int", "int"),
        ("INTEGER", "int"),
        ("bigint", "bigint"),
        ("numeric(12,2)", "decimal(12,2)"),
        ("numeric( 38 , 38 )", "decimal(38,38)"),
        ("decimal(5)", "decimal(5,0)"),
        ("real", "real"),
        ("double  precision", "float(53)"),
        ("boolean", "bit"),
        ("text", "nvarchar(max)"),
        ("character varying(40)", "nvarchar(40)"),
        ("char(3)", "nchar(3)"),
        ("uuid", "uniqueidentifier"),
        ("date", "date"),
        ("time", "time(6)"),
        ("timestamp", "datetime2(6)"),
        ("timestamp with time zone", "datetime2(6)"),
        ("bytea", "varbinary(max)"),
        ("jsonb", "nvarchar(max)"),
    ],
)
def test_each_type_has_one_that_carries_it(declared: str, tsql: str) -> None:
    assert parse_column_type(declared).tsql == tsql


def test_a_column_is_required_unless_null_is_said() -> None:
    assert not parse_column_type("text").nullable
    assert not parse_column_type("text NOT NULL").nullable
    assert parse_column_type("numeric(12,2) NULL").nullable


@pytest.mark.parametrize(
    "declared",
    [
        *("", "money", "interval", "int[]", "timetz", "xml", "point", "varchar", "varchar(4001)"),
        *("numeric", "numeric(39,2)", "numeric(5,6)", "timestamptz(3)", "bigint; DROP TABLE x", "text null null"),
    ],
)
def test_what_cannot_be_carried_exactly_is_refused(declared: str) -> None:
    with pytest.raises(ValueError, match=r"'.*'"):
        parse_column_type(declared)


@pytest.mark.parametrize(
    ("declared", "source", "carried"),
    [
        ("bigint", "integer", True),
        ("integer", "bigint", False),
        ("numeric(12,2)", "numeric", True),
        ("numeric(12,2)", "integer", False),
        ("varchar(10)", "text", True),
        ("varchar(10)", "character varying", True),
        ("timestamptz", "timestamp without time zone", False),
        ("timestamptz", "timestamp with time zone", True),
        ("text", "jsonb", False),
        ("double precision", "real", True),
    ],
)
def test_a_source_column_may_be_declared_wider_but_never_as_something_else(
    declared: str, source: str, carried: bool
) -> None:
    assert parse_column_type(declared).carries(source) is carried


def test_a_type_prints_as_it_is_written() -> None:
    for declared in ("numeric(12,2)", "varchar(40) null", "double precision", "text null"):
        assert str(parse_column_type(declared)) == declared
