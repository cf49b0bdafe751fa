"""The tables of types: the column types that a pipeline declares, and how other types of Postgres become one of them.

A new column type is a row here, a row in the table of docs/operations.md, and its values in tests/harness/values.py.
Only values that need a check of a new kind need more: a `Check` in steps/type_rules.py
(DuckDB), and in postgres/filter.py what Postgres sends of such rows in spite of pushdown.
"""

from dataclasses import dataclass
from typing import Literal

Check = Literal["digits", "length", "finite", "date", "time", "timestamp"]
COLUMN, AS_TEXT = "{}", "{}::text"


@dataclass(frozen=True, kw_only=True)
class TypeRow:
    """A column type. Texts may contain {length}, {precision} and {scale}, the arguments of the declared type.

    `arrow`: the function of pyarrow, with arguments, for the bulk copy. `family`: what a filter may do with its values,
    and which it compares them with (predicate_literals.FAMILIES). `names`: its other names in Postgres; `serials` those
    that imply NOT NULL. `carries`: other source types that may be declared as it. `check`: what the values are checked
    for. `bytes`: its size in a row of SQL Server, 0 where that depends on the arguments or the value. `digits`: those
    of an integer. `can_be_key`: SQL Server can index it, and it can be read back exactly from text. `read`: the
    expression that the source sends for a column, where {} is the column.
    """

    tsql: str
    duckdb: str
    arrow: str
    family: str
    names: tuple[str, ...] = ()
    serials: tuple[str, ...] = ()
    carries: tuple[str, ...] = ()
    check: Check | None = None
    bytes: int = 0
    digits: int = 0
    can_be_key: bool = False
    read: str = COLUMN


_CHARACTERS = ("character", "national character", "national char", "nchar", "bpchar")
_VARYING = ("character varying", "char varying", "national character varying", "national char varying", "nchar varying")

TYPES = {
    "smallint": TypeRow(
        tsql="smallint", duckdb="SMALLINT", arrow="int16", family="number", bytes=2, digits=5, can_be_key=True,
        names=("int2",), serials=("smallserial", "serial2"),
    ),
    "integer": TypeRow(
        tsql="int", duckdb="INTEGER", arrow="int32", family="number", bytes=4, digits=10, can_be_key=True,
        names=("int", "int4"), serials=("serial", "serial4"), carries=("smallint",),
    ),
    "bigint": TypeRow(
        tsql="bigint", duckdb="BIGINT", arrow="int64", family="number", bytes=8, digits=19, can_be_key=True,
        names=("int8",), serials=("bigserial", "serial8"), carries=("smallint", "integer"),
    ),
    "numeric": TypeRow(
        tsql="decimal({precision},{scale})", duckdb="DECIMAL({precision},{scale})",
        arrow="decimal128({precision},{scale})", family="number", can_be_key=True,
        names=("decimal", "dec"), check="digits",
    ),
    "real": TypeRow(
        tsql="real", duckdb="REAL", arrow="float32", family="float", bytes=4, can_be_key=True,
        names=("float4",), check="finite",
    ),
    "double precision": TypeRow(
        tsql="float(53)", duckdb="DOUBLE", arrow="float64", family="float", bytes=8, can_be_key=True,
        names=("float8",), carries=("real",), check="finite",
    ),
    "boolean": TypeRow(
        tsql="bit", duckdb="BOOLEAN", arrow="bool_", family="boolean", bytes=1, can_be_key=True, names=("bool",),
    ),
    "text": TypeRow(
        tsql="nvarchar(max)", duckdb="VARCHAR", arrow="string", family="text", carries=("varchar", "char"),
    ),
    "varchar": TypeRow(
        tsql="nvarchar({length})", duckdb="VARCHAR", arrow="string", family="text", can_be_key=True,
        names=_VARYING, carries=("text", "char"), check="length",
    ),
    "char": TypeRow(
        tsql="nchar({length})", duckdb="VARCHAR", arrow="string", family="text", can_be_key=True,
        names=_CHARACTERS, check="length",
    ),
    "uuid": TypeRow(
        tsql="uniqueidentifier", duckdb="UUID", arrow="binary(16)", family="uuid", bytes=16, can_be_key=True,
    ),
    "date": TypeRow(
        tsql="date", duckdb="DATE", arrow="date32", family="date", bytes=3, can_be_key=True, check="date",
    ),
    "time": TypeRow(
        tsql="time(6)", duckdb="TIME", arrow="time64(us)", family="time", bytes=5, can_be_key=True,
        names=("time without time zone",), check="time",
    ),
    "timestamp": TypeRow(
        tsql="datetime2(6)", duckdb="TIMESTAMP", arrow="timestamp(us)", family="timestamp", bytes=8, can_be_key=True,
        names=("timestamp without time zone",), check="timestamp",
    ),
    "timestamptz": TypeRow(
        tsql="datetime2(6)", duckdb="TIMESTAMP", arrow="timestamp(us)", family="timestamptz", bytes=8, can_be_key=True,
        names=("timestamp with time zone",), check="timestamp",
    ),
    "bytea": TypeRow(tsql="varbinary(max)", duckdb="BLOB", arrow="binary", family="opaque"),
    "json": TypeRow(
        tsql="nvarchar(max)", duckdb="VARCHAR", arrow="string", family="document", carries=("jsonb",),
        read=AS_TEXT,
    ),
    "jsonb": TypeRow(
        tsql="nvarchar(max)", duckdb="VARCHAR", arrow="string", family="document", carries=("json",),
        read=AS_TEXT,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a type of Postgres that has no row in TYPES is carried: in another type, most of them as their text.

    `declared`: the column type that it becomes, with {length} if it has one. `read`: as in TypeRow. `is_key`: values
    are equal in Postgres exactly where their forms are. `is_compared`: a filter compares the form as Postgres compares
    the value; other columns can only be asked whether they are null. `is_ordered`: keys are compared by an operator of
    Postgres' own, so that a range of keys is what the index says.
    """

    declared: str = "text"
    read: str = AS_TEXT
    is_key: bool = False
    is_compared: bool = False
    is_ordered: bool = True


ENUM = Form(declared="varchar(63)", is_key=True, is_compared=True)
OTHER = Form()
"""Of arrays, ranges, multiranges and composites: their text form has everything, unlike what drivers make of them."""
EXTENSION = Form(is_key=True, is_ordered=False)
"""Of a type that an extension or a user brings: `<` is whatever the search_path finds."""
FORMS = {
    "name": Form(declared="varchar(63)", is_key=True, is_compared=True),
    # As binary, '' is a zero character and some others are invalid UTF-8; their texts are '' and \377.
    # In a comparison Postgres cuts 'abc' to 'a'.
    '"char"': Form(declared="varchar(4)", is_key=True),
    "bit": Form(declared="varchar({length})", is_key=True, is_compared=True),
    "bit varying": Form(declared="varchar({length})", is_key=True, is_compared=True),
    # Drivers hand on the integer that it is stored as, without its scale.
    "money": Form(declared="numeric(19,2)", read="{}::numeric", is_compared=True),
    # Drivers take one above 2147483647 for a negative number; Postgres takes -1 for 4294967295 in a comparison.
    **dict.fromkeys(("oid", "xid", "cid"), Form(declared="bigint", read="{}::text::bigint", is_key=True)),
    "xid8": Form(declared="numeric(20,0)", read="{}::text::numeric"),
    # A day equals 24 hours, so it is no key. The longest has 66 characters.
    "interval": Form(declared="varchar(72)"),
    "time with time zone": Form(declared="varchar(24)", is_key=True),
    # As psql shows it, without the /32 of a host.
    "inet": Form(declared="varchar(49)", read="abbrev({})", is_key=True),
    "cidr": Form(declared="varchar(49)", is_key=True),
    "macaddr": Form(declared="varchar(17)", is_key=True),
    "macaddr8": Form(declared="varchar(23)", is_key=True),
    "pg_lsn": Form(declared="varchar(17)", is_key=True),
    **dict.fromkeys(
        (
            "xml", "tsvector", "tsquery", "jsonpath", "point", "line", "lseg", "box", "path", "polygon", "circle",
            "pg_snapshot", "txid_snapshot", "tid", "refcursor", "aclitem", "regclass", "regtype", "regproc",
            "regprocedure", "regoper", "regoperator", "regrole", "regnamespace", "regconfig", "regdictionary",
            "regcollation",
        ),
        OTHER,
    ),
}  # fmt: skip
"""Types of Postgres itself, by the name that format_type gives them."""
FORM_NAMES = {"timetz": "time with time zone", "varbit": "bit varying"}
"""Other names of theirs in DDL."""
INTERNAL = (
    "gtsvector", "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
)  # fmt: skip
"""Types that are refused: their text does not hold the value."""
