"""Expressions of columns as SQL of Postgres; its own functions and operators are named in full."""

from etl.model.column_types import ColumnType
from etl.model.predicate_values import Term
from etl.postgres.quoting import quote_name, quote_text

_TYPES = {
    "smallint": "int2", "integer": "int4", "bigint": "int8", "real": "float4", "double precision": "float8",
    "boolean": "bool", "char": "bpchar",
}  # fmt: skip
_OF_GRAMMAR = ("coalesce", "greatest", "least")
"""What is written as a function, but has no name in a schema."""


def render(term: Term) -> str:
    """The expression in SQL, with parentheses around every part."""
    parts = [render(each) for each in term.operands]
    match term.operator:
        case "column":
            return quote_name(term.text)
        case "text":
            return quote_text(term.text)
        case "number" | "word":
            return term.text
        case "AND" | "OR":
            return f"({f' {term.operator} '.join(parts)})"
        case "NOT":
            return f"(NOT {parts[0]})"
        case "IS NULL":
            return f"({parts[0]} IS NULL)"
        case "case":
            *branches, otherwise = parts
            pairs = zip(branches[::2], branches[1::2], strict=True)
            return f"CASE {' '.join(f'WHEN {when} THEN {then}' for when, then in pairs)} ELSE {otherwise} END"
        case "cast" if term.type is not None:
            return f"CAST({parts[0]} AS {_type(term.type)})"
        case "extract":
            return f"EXTRACT({term.text} FROM {parts[0]})"
        case "AT TIME ZONE":
            return f"({parts[0]} AT TIME ZONE {parts[1]})"
        case function if function in _OF_GRAMMAR:
            return f"{function}({', '.join(parts)})"
        case function if function.replace("_", "").isalnum():
            return f"pg_catalog.{function}({', '.join(parts)})"
    operator = f"OPERATOR(pg_catalog.{term.operator})"
    return f"({operator} {parts[0]})" if len(parts) == 1 else f"({parts[0]} {operator} {parts[1]})"


def _type(kind: ColumnType) -> str:
    arguments = f"({kind.length})" if kind.length else f"({kind.precision},{kind.scale})" if kind.precision else ""
    return f"pg_catalog.{_TYPES.get(kind.name, kind.name)}{arguments}"
