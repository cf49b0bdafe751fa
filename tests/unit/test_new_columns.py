"""The types of columns that a run adds: those that `etl new-pipeline` writes, and the same in each later run."""

import pytest
from etl.errors import ConfigurationError
from etl.model.column_types import parse_column_type
from etl.model.new_columns import declare
from etl.model.source_type import SourceType
from etl.model.type_table import FORMS, TYPES

_ARGUMENTS = {"varchar": "(40)", "char": "(40)", "numeric": "(12,2)", "bit": "(8)"}
SOURCES = [
    *(SourceType(name, written=f"{name}{_ARGUMENTS.get(name, '')}") for name in (*TYPES, *FORMS)),
    SourceType("text", written="text"),
    SourceType("character varying", written="character varying"),
    SourceType("numeric", written="numeric"),
    SourceType("numeric", written="numeric(60,3)"),
    SourceType("mood", "e", "mood"),
    SourceType("integer[]", "A", "integer[]"),
    SourceType("pair", "c", "pair"),
    SourceType("hstore", written="hstore"),
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.written)
def test_each_type_has_one_declaration_which_the_table_in_the_sink_keeps(source: SourceType) -> None:
    declared = declare("public.t", {"c": source}, {})
    column = parse_column_type(declared["c"])
    assert column.nullable
    assert source.is_carried_by(column)
    assert declare("public.t", {"c": source}, {"c": column.tsql}) == declared


@pytest.mark.parametrize(
    ("written", "present", "declared"),
    [
        ("numeric", "decimal(38,4)", "numeric(38,4) null"),
        ("numeric(12,2)", "decimal(19,4)", "numeric(19,4) null"),
        ("numeric(12,2)", "nvarchar(max)", "text null"),
        ("character varying(40)", "nvarchar(max)", "text null"),
        ("character varying(40)", "nvarchar(20)", "varchar(20) null"),
        ("text", "nvarchar(300)", "varchar(300) null"),
    ],
)
def test_a_column_that_the_sink_has_keeps_its_type_if_that_can_hold_values(
    written: str, present: str, declared: str
) -> None:
    source = SourceType(written.partition("(")[0], written=written)
    assert declare("public.t", {"c": source}, {"c": present}) == {"c": declared}


def test_a_column_of_another_type_in_the_sink_is_refused_with_the_type_that_it_needs() -> None:
    with pytest.raises(ConfigurationError, match=r"c of public.t is bigint, .* as int\. .* bigint NULL"):
        declare("public.t", {"c": SourceType("bigint", written="bigint")}, {"c": "int"})
