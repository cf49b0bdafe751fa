"""Masks, which stand for the values of a pipeline's `sensitive` columns in messages.

A mask is a keyed hash (HMAC-SHA256, 48 bits of it): the same value has the same mask everywhere, so a row can be
distinguished from others, and found again by a person who has the key. Without the key it cannot be guessed, as a plain
hash of an order number or a name could; so if no key is set, a mask has no hash either.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal, DecimalException
from struct import pack, unpack
from uuid import UUID

from etl.errors import printable
from etl.model.column_types import ColumnType
from etl.model.pipeline import Pipeline

SHORTEST_KEY = 16
_MASK_DIGITS = 12
_MASKED = "masked"
# In every language of a server's messages a value is in quotes, in parentheses or after an equals sign, except some
# numbers and times.
_VALUE = re.compile("[\"'`(=\u00ab\u00bb\u2018-\u201f\u2039\u203a\u300a-\u300f]|(?<!\\w)[-+]?\\d")


class WithheldError(Exception):
    """An unexpected error without its message, which may contain a value."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            f"{type(error).__name__}, whose words are withheld: they may hold a value of a sensitive column"
        )


class Mask:
    """Formats values and keys of one pipeline; those of its sensitive columns as masks, made with `key`."""

    def __init__(self, pipeline: Pipeline, key: str = "") -> None:
        self._pipeline = pipeline
        self._sensitive = frozenset(pipeline.sensitive)
        self._key = key.encode()

    @property
    def covers_any(self) -> bool:
        """Whether there are values that may not be shown."""
        return bool(self._sensitive)

    def covers(self, column: str) -> bool:
        """Whether the values of a column are masked."""
        return column in self._sensitive

    def value(self, column: str, value: object) -> str:
        """A value, for messages."""
        return self.masked(column, value) if self.covers(column) else printable(value)

    def masked(self, column: str, value: object) -> str:
        """The mask of a value; the same for every form in which drivers return it."""
        if not self._key:
            return _MASKED
        text = canonical(self._pipeline.types[column], str(value))
        digest = hmac.new(self._key, text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()
        return f"{_MASKED}:{digest[:_MASK_DIGITS]}"

    def row(self, key: Sequence[object]) -> str:
        """A row's key, for messages."""
        named = (f"{name}={self.value(name, value)}" for name, value in zip(self._pipeline.key, key, strict=True))
        return ", ".join(named) or "a row without a key"

    def words(self, text: str) -> str:
        """A message of a server or library; if columns are sensitive, cut off before the first possible value."""
        found = _VALUE.search(text) if self.covers_any else None
        return f"{text[: found.start()].rstrip()} …" if found else text


def canonical(column: ColumnType, text: str) -> str:
    """The canonical text of a value, which Postgres, DuckDB, SQL Server, Python and people write differently."""
    # Other texts, such as infinity, are returned unchanged.
    with suppress(ValueError, OverflowError, DecimalException):
        return _CANONICAL.get(column.name, str)(text)
    return text


def _digits(text: str) -> str:
    """A number without trailing zeros; by text, since arithmetic would round one of more than 28 digits."""
    written = f"{Decimal(text):f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def moment(text: str) -> datetime:
    """A time from ISO 8601; one with a zone in UTC, without it. Raises ValueError or OverflowError."""
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at


def as_real(value: float) -> float:
    """The number of four bytes that is nearest. Raises OverflowError."""
    return float(unpack("f", pack("f", value))[0])


_CANONICAL: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(("smallint", "integer", "bigint"), lambda text: str(int(text))),
    "numeric": _digits,
    "real": lambda text: repr(as_real(float(text)) + 0.0),
    "double precision": lambda text: repr(float(text) + 0.0),  # -0.0 equals 0.0
    "boolean": lambda text: str(text.lower() in ("true", "t", "1")).lower(),
    "uuid": lambda text: str(UUID(text)),
    "char": lambda text: text.rstrip(" "),
    "date": lambda text: date.fromisoformat(text).isoformat(),
    "time": lambda text: time.fromisoformat(text).isoformat(),
    **dict.fromkeys(("timestamp", "timestamptz"), lambda text: moment(text).isoformat()),
}
