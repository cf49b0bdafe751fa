"""The key of one row, as a person types it: checked against the pipeline's types, and compared with staged rows."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal, localcontext
from math import isfinite
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from etl.errors import ConfigurationError
from etl.model.column_types import ColumnType
from etl.model.masking import as_real, canonical, moment
from etl.model.pipeline import Pipeline


def _whole(bits: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not -(1 << bits) <= (number := int(text)) < 1 << bits:
            raise OverflowError
        return number

    return read


_TRUTHS = {"true": True, "t": True, "false": False, "f": False}


def _truth(text: str) -> bool:
    try:
        return _TRUTHS[text.lower()]
    except KeyError:
        raise ValueError from None


def _finite(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError
    return number


_READ: dict[str, Callable[[str], Any]] = {
    "smallint": _whole(15),
    "integer": _whole(31),
    "bigint": _whole(63),
    "numeric": Decimal,
    "real": lambda text: as_real(_finite(text)),
    "double precision": _finite,
    "boolean": _truth,
    "uuid": UUID,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timestamp": moment,
    "timestamptz": moment,
}


_STAGED_AS: dict[str, Callable[[pa.DataType], bool]] = {
    **dict.fromkeys(("smallint", "integer", "bigint"), pa.types.is_integer),
    "numeric": lambda staged: pa.types.is_string(staged) or pa.types.is_decimal(staged),
    **dict.fromkeys(("real", "double precision"), pa.types.is_floating),
    "boolean": pa.types.is_boolean,
    "uuid": pa.types.is_fixed_size_binary,
    "date": pa.types.is_date,
    "time": pa.types.is_time,
    **dict.fromkeys(("timestamp", "timestamptz"), pa.types.is_timestamp),
}
"""Whether an Arrow type is the one in which a column type is staged; all others are staged as text."""


class RowKey:
    """The values of a pipeline's key columns, in their order."""

    def __init__(self, pipeline: Pipeline, text: str) -> None:
        """`text` is the value, or a JSON list of them. Raises ConfigurationError, which does not show it."""
        if not pipeline.key:
            raise ConfigurationError(
                f"{pipeline.name} has no key, so no row can be named: delete it at the source, and the next run"
                " exchanges all rows."
            )
        self.pipeline = pipeline
        self._types = [pipeline.types[name] for name in pipeline.key]
        given = _split(text)
        if len(given) != len(pipeline.key):
            raise ConfigurationError(
                f"--key: {len(given)} values were given, and the key of {pipeline.name} is"
                f' {", ".join(pipeline.key)}: write a JSON list of as many, such as ["a", "1"].'
            )
        self._values = [_read(*each) for each in zip(pipeline.key, self._types, given, strict=True)]
        self.texts = [canonical(kind, value) for kind, value in zip(self._types, given, strict=True)]
        """As Postgres reads them, times in UTC."""

    @property
    def parameters(self) -> list[int | float | str]:
        """The parameters of `sink_sql.has_key`."""
        # How SQL Server rounds a decimal fraction to a binary one is not documented.
        return [
            value if isinstance(value, int | float) else text
            for value, text in zip(self._values, self.texts, strict=True)
        ]

    def is_in(self, rows: pa.Table) -> bool:
        """Whether one of the rows is this one; `rows` has the columns of the key as they were staged.

        Raises TypeError if they were staged as other types, so that they cannot be compared.
        """
        found: Any = True
        for kind, value, text, column in zip(self._types, self._values, self.texts, rows.columns, strict=True):
            found = pc.and_(found, _equal(kind, value, text, column))
        return bool(pc.any(found).as_py())

    def is_among(self, rejected: list[dict[str, Any]], masks: list[str]) -> bool:
        """Whether one of the rejected rows, whose values are texts or masks, is this one."""

        def matches(row: dict[str, Any]) -> bool:
            values = [row[name] for name in self.pipeline.key]
            return all(
                value is not None and (canonical(kind, value) == text or value == mask)
                for kind, value, text, mask in zip(self._types, values, self.texts, masks, strict=True)
            )

        return any(map(matches, rejected))


def _split(text: str) -> list[str]:
    """The values of a JSON list of texts and numbers; any other text is one value."""
    with suppress(ValueError):
        # Numbers as text: a float has 17 digits.
        given = json.loads(text, parse_int=str, parse_float=str) if text.lstrip().startswith("[") else None
        if isinstance(given, list) and all(isinstance(value, str) for value in given):
            return given
    return [text]


def _read(name: str, kind: ColumnType, text: str) -> Any:
    try:
        value = _READ.get(kind.name, str)(text)
        if isinstance(value, Decimal):
            _check_digits(value, kind)
    except (ValueError, ArithmeticError, OverflowError):
        raise ConfigurationError(f"--key: what was given for {name} is no {kind}.") from None
    return value


def _check_digits(value: Decimal, kind: ColumnType) -> None:
    """Raises ValueError for a number that the type does not hold: a server would round it to another row's key."""
    precision, scale = kind.precision or 0, kind.scale or 0
    if not value.is_finite() or (value and value.adjusted() >= precision - scale):
        raise ValueError
    with localcontext(prec=2 * precision):
        if value % Decimal(1).scaleb(-scale):
            raise ValueError


def _equal(kind: ColumnType, value: Any, text: str, column: pa.ChunkedArray) -> Any:
    """A mask of the rows in which a staged column has a value: as the source sent it, or in the sink's type."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if not _STAGED_AS.get(kind.name, pa.types.is_string)(column.type):
        raise TypeError(f"the column was not a {kind} when it was staged")
    if isinstance(value, UUID):
        value = value.bytes
    elif isinstance(value, datetime):
        column = column.cast(pa.timestamp("us"))
    elif isinstance(value, Decimal) and pa.types.is_string(column.type):
        digits = pc.replace_substring_regex(column, r"(\.[0-9]*?)0+$", r"\1")
        return pc.equal(pc.utf8_rtrim(digits, "."), text)
    elif isinstance(value, str):  # a varchar may have been a char when it was staged
        column, value = pc.utf8_rtrim(column, " "), text.rstrip(" ")
    try:
        return pc.equal(column, pa.scalar(value, column.type))
    except pa.ArrowInvalid:  # too large for it, or of too many digits
        return pa.scalar(False)
