"""Values for a column, as texts: plausible ones, which the checks of a schema often let through, and edges of the type.

All of them are such that the sink has them: a value that it has not would be rejected with its row.
"""

from random import Random

from tests.harness.schemas.described import Column
from tests.harness.values import EXTENSION_KINDS, KINDS, RefusedError

_KINDS = {kind.source: kind for kind in reversed([*EXTENSION_KINDS, *KINDS])}
_OTHER_NAMES = {
    "character varying": "text", "character": "text", "bpchar": "text", "bit varying": "varbit(7)",
    "time without time zone": "time", "time with time zone": "timetz", "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
}  # fmt: skip
_TEXTS = ("text", "character varying", "character", "bpchar", "name", "citext")
_NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double precision", "money", "oid")
_TIMES = ("date", "timestamp without time zone", "timestamp with time zone")
SHORT = 16
"""Characters of a text in a key: a pipeline allows as many, however short those of today are."""
_TRIES = 20


def random_value(column: Column, chance: Random, in_key: bool) -> str | None:
    """A value; None for NULL, or if no value of the type is known."""
    if not column.required and chance.random() < 0.15:
        return None
    if column.literals and chance.random() < 0.5:
        return chance.choice(column.literals)
    # A time that is required may be a version, which must not lie in the future.
    is_plain = in_key or (column.type in _TIMES and column.required) or chance.random() < 0.5
    return _plausible(column, chance) if is_plain else _edge(column, chance)


def _plausible(column: Column, chance: Random) -> str | None:
    if column.labels:
        return chance.choice(column.labels)
    if column.type in _TEXTS:
        return _word(chance)[: min(column.size or SHORT, SHORT)]
    if column.type in _NUMBERS:
        return _number(column, chance)
    if column.type in _TIMES:
        return f"{chance.randint(1990, 2024)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
    if column.type == "bit":
        return "".join(chance.choice("01") for _ in range(column.size or 1))
    if column.type.endswith("[]") and column.type not in _KINDS:
        return "{}"
    return _edge(column, chance)


def _number(column: Column, chance: Random) -> str:
    whole = column.declared == column.type or "," in column.declared
    if column.type in ("numeric", "real", "double precision", "money") and chance.random() < 0.5:
        digits = f"{chance.randint(0, 9)}.{chance.randint(0, 99):02}"
        return digits if whole else digits.partition(".")[0]
    return str(chance.choice([0, 1, chance.randint(1, 9), chance.randint(1, 99), chance.randint(1, 9999)]))


def _edge(column: Column, chance: Random) -> str | None:
    if column.type == "xml":
        return f"<a><b>{_word(chance)}</b></a>"  # a document: views take apart what applications put there
    kind = _KINDS.get(_OTHER_NAMES.get(column.type, column.type))
    if kind is None or column.type in ("numeric", "bit"):
        return _plausible(column, chance) if column.labels or column.type in ("numeric", "bit") else None
    for _ in range(_TRIES):
        text = kind.make(chance)
        try:
            kind.shown(text)
        except (RefusedError, ValueError):
            continue
        if column.type not in _TEXTS or _is_fit(text, column):
            return text
    return None


def _is_fit(text: str, column: Column) -> bool:
    """Whether it has as many UTF-16 code units as characters; nor has it a byte order mark, which the driver drops."""
    return len(text) <= (column.size or len(text)) and all(letter < "\ud800" for letter in text)


def _word(chance: Random) -> str:
    return "".join(chance.choice("abcdefXYZ0123456789") for _ in range(chance.randint(1, SHORT)))
