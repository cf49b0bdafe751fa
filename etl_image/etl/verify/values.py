"""Values of both sides in one form, as expressions of DuckDB: equal there where they are equal for the pipeline.

The source's rows come as the type rules make them for the bulk copy, the sink's as its driver reads them.
"""

from collections.abc import Sequence

import pyarrow as pa

from etl.model.column_types import ColumnType
from etl.model.pipeline import Pipeline

BUCKETS = 65536
"""Rows are counted and summed by a hash of their key, in so many sums."""


def comparable(place: str, kind: ColumnType, arrow: pa.DataType, decimals: str = "") -> str:
    """An expression for a column: its value in the type in which both sides are compared.

    A sink's column may be wider than the pipeline's; `decimals` is the type in which decimals are compared then.
    """
    if kind.is_integer:
        return f"{place}::BIGINT"
    match kind.name:
        case "numeric":
            return f"{place}::{decimals or kind.duckdb}"
        case "real" | "double precision":
            return f"{place}::DOUBLE"
        case "uuid":
            return f"hex({place})::UUID" if pa.types.is_fixed_size_binary(arrow) else f"{place}::UUID"
        case "timestamp" | "timestamptz":
            return f"make_timestamp(epoch_us({place}))"
        case "time":
            return f"{place}::TIME"
        case "char":
            return f"rtrim({place}, ' ')"
    return f"{place}::{kind.duckdb}"


def decimal_types(pipeline: Pipeline, sink: pa.Schema, columns: Sequence[str]) -> dict[str, str]:
    """The types in which decimals are compared: those of the sink, which hold each value of the pipeline's."""
    found = {}
    for name, field in zip(columns, sink, strict=True):
        if pipeline.types[name].name == "numeric" and pa.types.is_decimal(field.type):
            found[name] = f"DECIMAL({field.type.precision},{field.type.scale})"
    return found


def key_bucket(keys: Sequence[str]) -> str:
    """An expression for the bucket of a row, by the names of its key in the query."""
    return f"(hash({', '.join(keys)}) % {BUCKETS})::INTEGER"
