"""What messages show in the place of the values of a pipeline's `sensitive` columns.

A mask is a keyed hash (HMAC-SHA256, 48 bits of it): the same value has the same mask wherever it is shown, so a row can
be told from others and found again by whoever has the key. Without the key it cannot be guessed, as a plain hash of an
order number or a name could; so where no key is set, a mask has no hash either.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal, DecimalException
from uuid import UUID

from etl.errors import shown
from etl.model.column_types import ColumnType
from etl.model.pipeline import Pipeline

SHORTEST_KEY = 16
_MASK_DIGITS = 12
_MASKED = "masked"
# Of all languages that a server may speak: what it says of a value it puts in quotes, in parentheses or after an equals
# sign, but for some numbers and times, which stand as they are.
_VALUE = re.compile("[\"'`(=\u00ab\u00bb\u2018-\u201f\u2039\u203a\u300a-\u300f]|(?<!\\w)[-+]?\\d")


class WithheldError(Exception):
    """An error that was not foreseen, without its words: they may hold a value."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            f"{type(error).__name__}, whose words are withheld: they may hold a value of a sensitive column"
        )


class Mask:
    """Shows values and keys of one pipeline; those of its sensitive columns as masks, made with `key`."""

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
        """A value as messages show it."""
        return self.masked(column, value) if self.covers(column) else shown(value)

    def masked(self, column: str, value: object) -> str:
        """The mask of a value; the same in whatever form a driver gives the value."""
        if not self._key:
            return _MASKED
        text = canonical(self._pipeline.types[column], str(value))
        digest = hmac.new(self._key, text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()
        return f"{_MASKED}:{digest[:_MASK_DIGITS]}"

    def row(self, key: Sequence[object]) -> str:
        """A row's key as messages show it."""
        return ", ".join(
            f"{name}={self.value(name, value)}" for name, value in zip(self._pipeline.key, key, strict=True)
        )

    def words(self, text: str) -> str:
        """What a server or a library says: where columns are sensitive, up to the first thing that may be a value."""
        found = _VALUE.search(text) if self.covers_any else None
        return f"{text[: found.start()].rstrip()} …" if found else text


def canonical(column: ColumnType, text: str) -> str:
    """One text for a value, which Postgres, DuckDB, SQL Server, Python and people write differently."""
    # What is not written so, as infinity, stays as it is.
    with suppress(ValueError, OverflowError, DecimalException):
        return _CANONICAL.get(column.name, str)(text)
    return text


def _digits(text: str) -> str:
    """A number without zeros at its end; exactly, for arithmetic would round one of more than 28 digits."""
    written = f"{Decimal(text):f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def moment(text: str) -> datetime:
    """A time from ISO 8601; one with a zone in UTC, without it. Raises ValueError or OverflowError."""
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at


_CANONICAL: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(("smallint", "integer", "bigint"), lambda text: str(int(text))),
    "numeric": _digits,
    "uuid": lambda text: str(UUID(text)),
    "char": lambda text: text.rstrip(" "),
    "date": lambda text: date.fromisoformat(text).isoformat(),
    **dict.fromkeys(("timestamp", "timestamptz"), lambda text: moment(text).isoformat()),
}
