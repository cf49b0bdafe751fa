"""A column type is written as in Postgres and becomes the SQL Server type that carries it exactly."""

import re

import pytest
from etl.model.column_types import parse_column_type
from etl.model.source_type import SourceType


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
        ("macaddr", "nvarchar(17)"),
        *((name, "smallint") for name in ("int2", "smallserial", "serial2")),
        *((name, "int") for name in ("int4", "serial", "serial4 NOT NULL")),
        *((name, "bigint") for name in ("int8", "bigserial", "serial8", "INT8")),
        *((name, "real") for name in ("float4", "float(1)", "float(24)")),
        *((name, "float(53)") for name in ("float8", "float", "float(25)", "float(53)")),
        *((name, "decimal(10,0)") for name in ("dec(10)", "numeric(10)", "numeric(10,0)")),
        *((name, "nvarchar(20)") for name in ("varchar(20)", "character  varying(20)", "char varying (20)")),
        *((name, "nchar(1)") for name in ("char", "character", "character(1)", "bpchar(1)")),
        *((f"{name}{rest}", "datetime2(6)") for name in ("timestamp", "timestamp(0)", "TIMESTAMP (3)", "timestamp(6)")
          for rest in ("", " with time zone", " without time zone\n", " with  time zone not null")),
        *((name, "datetime2(6)") for name in ("timestamptz(3)", "timestamptz(0)")),
        *((name, "time(6)") for name in ("time(0)", "time(3) without time zone", "time without time zone")),
        ("bool", "bit"),
        ("numeric(5,-2)", "decimal(7,0)"),
        ("numeric(2,5)", "decimal(5,5)"),
        ("money", "decimal(19,2)"),
        *((name, "bigint") for name in ("oid", "xid", "cid")),
        ("xid8", "decimal(20,0)"),
        *((name, "nvarchar(72)") for name in ("interval", "interval(3)", "interval day to second(3)")),
        *((name, "nvarchar(24)") for name in ("timetz", "time(3) with time zone", "time with time zone")),
        *((name, "nvarchar(49)") for name in ("inet", "cidr")),
        ("macaddr8", "nvarchar(23)"),
        ("pg_lsn", "nvarchar(17)"),
        ("name", "nvarchar(63)"),
        ('"char"', "nvarchar(4)"),
        *(("bit", "nvarchar(1)"), ("bit(7)", "nvarchar(7)"), ("varbit(7)", "nvarchar(7)")),
        *((name, "nvarchar(max)") for name in ("bit varying", "bit(4001)", "xml", "tsvector", "point", "regclass")),
    ],
)  # fmt: skip
def test_each_type_has_one_that_carries_it(declared: str, tsql: str) -> None:
    assert parse_column_type(declared).tsql == tsql


def test_a_column_is_required_unless_null_is_said() -> None:
    assert not parse_column_type("text").nullable
    assert not parse_column_type("text NOT NULL").nullable
    assert parse_column_type("numeric(12,2) NULL").nullable
    assert parse_column_type("timestamp(3) with time zone null").nullable
    assert not parse_column_type("bigserial").nullable


@pytest.mark.parametrize(
    "declared",
    [
        *("", "int[]", "varchar", "varchar(4001)", "bit(0)", "bit(1,2)"),
        *("numeric", "numeric(39,2)", "numeric(38,-1)", "numeric(5,39)", "bigint; DROP TABLE x", "text null null"),
        *("bpchar", "float(0)", "float(54)", "timestamp(7)"),
        *(
            "bigint(3)",
            "timestamp(3,1)",
            "int5",
            "citext",
            "varchar(0)",
            "public.mood",
        ),
    ],
)
def test_what_cannot_be_carried_exactly_is_refused(declared: str) -> None:
    with pytest.raises(ValueError, match=r"'.*'"):
        parse_column_type(declared)


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("varchar", "'varchar' needs a length from 1 to 4000, or use text"),
        ("integer[]", "is an array, which SQL Server does not have; declare text, for the array as Postgres writes it"),
        ("text[] null", "is an array"),
        ("integer ARRAY", "is an array"),
        ("bigserial null", "is never null in Postgres; leave null away"),
        ("integer DEFAULT 5", "leave DEFAULT away"),
        ('text COLLATE "C" null', "leave COLLATE away"),
        ("bigint primary key", "leave PRIMARY KEY away"),
        ("citext\n", "'citext\\n' is none of the types that may be declared: smallint, integer,"),
        ("mood", "An enum is declared varchar(63), a domain as its base type, and every other type text"),
        ("numeric", "'numeric' has no precision: write how many digits there are"),
    ],
)
def test_a_refusal_says_what_to_write(declared: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        parse_column_type(declared)
    assert str(caught.value).isprintable()


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
        ("numeric(22,3)", "money", True),
        ("text", "money", False),
        ("bigint", "oid", True),
        ("varchar(9)", "oid", False),
        ("text", "inet", True),
        ("inet", "cidr", True),
        ("inet", "text", True),
        ("bigint", "inet", False),
        ("text", "numeric", True),
    ],
)
def test_a_source_column_may_be_declared_wider_but_never_as_something_else(
    declared: str, source: str, carried: bool
) -> None:
    assert SourceType(source).is_carried_by(parse_column_type(declared)) is carried


def test_a_type_prints_as_it_is_written() -> None:
    for declared in ("numeric(12,2)", "varchar(40) null", "double precision", "text null"):
        assert str(parse_column_type(declared)) == declared
