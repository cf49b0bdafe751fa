"""Filters, valid and malformed, and edge values of every column type."""

import re
from typing import Any

from hypothesis import strategies as st

COLUMNS = {
    "k": "integer", "version": "timestamptz", "flag": "boolean null", "other": "boolean null",
    "small": "smallint null", "count": "integer null", "big": "bigint null", "price": "numeric(6,2) null",
    "exact": "numeric(20,10) null", "huge": "numeric(38,0) null", "tiny": "numeric(38,38) null", "note": "text null",
    "word": "varchar(4) null", "long": "varchar(4000) null", "code": "char(3) null", "needed": "text",
    "id": "uuid null", "twin": "uuid null", "day": "date null", "due": "date null", "clock": "time null",
    "local": "timestamp null", "seen": "timestamp null", "moment": "timestamptz null",
    "ratio": "double precision null", "half": "real null", "doc": "jsonb null", "raw": "bytea null",
    "cents": "money null", "label": "name null", "bits": "bit(3) null",
}  # fmt: skip
EDGES: dict[str, Any] = {
    "name": "edges", "source": "public.edges", "sink": "dbo.edges", "columns": COLUMNS, "key": ["k"],
    "version": "version", "filter": "true",
}  # fmt: skip
TEXTS = [
    "", "a", "A", "á", "ab", "a ", " a", " ", "%", "_", "a|", "|", "a |", "ß", "ss", "🚚", "🚚🚚", "e\u0301", "é", "e",
    "K", "k", "\u212a", "i", "\u0131", "İ", "\u017f", "\U0001f69b", "\ue000", "\uffff", "\t", "a\n", "[a]", "\\",
]  # fmt: skip
_UUIDS = [
    "00000000-0000-0000-0000-000000000007", "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "7fffffff-0000-0000-0000-000000000002", "80000000-0000-0000-0000-000000000001",
]  # fmt: skip
_DAYS = ["0001-01-01", "1582-10-10", "1970-01-01", "2024-02-29", "2026-01-31", "9999-12-31"]
_TIMES = ["0001-01-01", "1970-01-01", "2026-03-29 01:30:00", "2026-03-29 02:30:00.000001", "9999-12-31 23:59:59.999999"]
_WIDE = ["9" * 38, f"-{'9' * 38}", "1", "0", "10"]
_LONG = ["a", "a ", "é", "x" * 4000, "x" * 3999, "x" * 3999 + " ", "x" * 3999 + "|", "x" * 3999 + "y", "🚚" * 2000]
_FLOATS = ["0", "-0", "0.1", "0.7", "1.5", "-1.5", "16777217", "1e15", "1e-15", "5e-324", "1.7976931348623157e308"]
VALUES: dict[str, list[str]] = {
    "flag": ["true", "false"], "other": ["true", "false"],
    "small": ["0", "-1", "1", "5", "32767", "-32768"],
    "count": ["0", "-1", "1", "5", "32767", "2147483647", "-2147483648"],
    "big": ["0", "-1", "5", "9223372036854775807", "-9223372036854775808", "999999999999999999"],
    "price": ["0", "-1", "1", "5", "0.01", "-0.01", "1.50", "1.5000", "9999.99", "-9999.99"],
    "exact": ["0", "0.0000000001", "-0.0000000001", "9999999999.9999999999", "-9999999999.9999999999", "1.5", "5"],
    "huge": _WIDE, "tiny": ["0", f"0.{'9' * 38}", f"-0.{'9' * 38}", f"0.{'0' * 37}1"],
    "note": TEXTS, "word": [text for text in TEXTS if len(text) <= 4],
    "long": _LONG,
    "code": ["", "a", "A", "ab", "abc", "🚚", "a b", " a"], "needed": ["a", "b"],
    "id": _UUIDS, "twin": _UUIDS, "day": _DAYS, "due": _DAYS,
    "clock": ["00:00:00", "12:30:00.5", "23:59:59.999999", "12:30"], "local": _TIMES, "seen": _TIMES,
    "moment": [f"{time}+00" for time in _TIMES], "ratio": _FLOATS, "half": ["0", "0.1", "0.7", "1.5", "16777216", "-3"],
    "doc": ['{"a": "Test"}', '{"a": "test "}', "[]"], "raw": ["\\x00", "\\x", "\\x6100"],
    "cents": ["0", "-1", "1.50", "5", "9999.99"],
    "label": [text for text in TEXTS if len(text) <= 4], "bits": ["101", "000", "001"],
}  # fmt: skip
_BEYOND = ["infinity", "-infinity", "10000-01-01", "0044-03-15 BC"]
BROKEN: dict[str, list[str]] = {
    "price": ["0.001", "10000", "NaN", "Infinity", "-Infinity"], "exact": ["NaN", "1e-11", "10000000000"],
    "word": ["abcde", "🚚🚚🚚", "a    "], "code": ["abcd", "🚚🚚"],
    "day": _BEYOND, "due": _BEYOND, "clock": ["24:00:00"],
    "local": _BEYOND, "seen": _BEYOND, "moment": _BEYOND, "ratio": ["NaN", "Infinity", "-Infinity"], "half": ["NaN"],
}  # fmt: skip
"""Values that the source can have and no sink can store."""
SOURCE_TABLE = """
CREATE TABLE edges (
    k integer PRIMARY KEY, version timestamptz NOT NULL DEFAULT '2026-01-01', flag boolean, other boolean,
    small smallint, count integer, big bigint, price numeric, exact numeric, huge numeric, tiny numeric, note text,
    word text, long text, code char(5), needed text, id uuid, twin uuid, day date, due date, clock time,
    local timestamp, seen timestamp, moment timestamptz, ratio double precision, half real, doc jsonb, raw bytea,
    cents money, label name, bits bit(3)
)
"""
"""A table whose columns are wider than the pipeline declares."""

_NUMBERS = ["small", "count", "big", "price", "exact", "cents"]
_FAMILIES = {
    "text": ["note", "word", "long", "code", "needed", "label", "bits"], "uuid": ["id", "twin"], "date": ["day", "due"],
    "time": ["clock"], "timestamp": ["local", "seen"], "timestamptz": ["moment"],
}  # fmt: skip
_PATTERNS = ["a%", "%a", "%", "", "a", "%a%", "%🚚", "é", "e%", "% %", "%|", "A%", "%\t", "a %", "%]%", "x%y"]
_ODD = {
    "number": ["1e2", ".5", "5.", "1e-3", "9" * 39, "'5'", "9223372036854775808", "- -5"],
    "text": ["5", "'a '", "E'a'", "$$a$$", "'x\\y'"],
    "uuid": ["'{00000000-0000-0000-0000-000000000007}'", "'00000000000000000000000000000007'"],
    "date": ["'infinity'", "'today'", "'2026-1-5'", "'2026-01-31 12:00'", "'0000-01-01'", "'20260131'"],
    "time": ["'24:00:00'", "'12:30:00.1234567'", "'12'", "'12:30 PM'", "'23:59:60'"],
    "timestamp": ["'infinity'", "'2026-01-31 24:00:00'", "'2026-01-31T12:00:00Z'", "'now'", "'2026-01-31 12'"],
    "timestamptz": ["'-infinity'", "'2026-01-31 12:00+02'", "'2026-01-31T12:00:00Z'", "'yesterday'"],
}
_EQUAL, _ORDER = st.sampled_from(["=", "<>", "!="]), st.sampled_from(["=", "<>", "<", "<=", ">", ">="])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _rarely(often: st.SearchStrategy[str], odd: list[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 19).flatmap(lambda choice: st.sampled_from(odd) if choice == 19 else often)


def _literals(name: str) -> st.SearchStrategy[str]:
    own = [each.removesuffix("+00") for column in _FAMILIES[name] for each in VALUES[column] if each[-1:] != " "]
    return _rarely(st.sampled_from([_quoted(each) for each in own]), _ODD[name])


def _compared(
    value: st.SearchStrategy[str], other: st.SearchStrategy[str], operator: st.SearchStrategy[str], ordered: bool
) -> st.SearchStrategy[str]:
    listed = st.lists(other, min_size=1, max_size=3).map(", ".join)
    negation = st.sampled_from(["", "NOT "])
    between = st.builds("{} {}BETWEEN {} AND {}".format, value, negation, other, other)
    return st.one_of(
        st.builds("{} {} {}".format, value, operator, other),
        st.builds("{} {} {}".format, other, operator, value),
        st.builds("{} {}IN ({})".format, value, negation, listed),
        *([between] if ordered else []),
    )


_whole = st.sampled_from(["0", "1", "-1", "2", "5", "40000", "3000000000", "999999999999999999"])
_exact = st.sampled_from(["1.5", "-0.0049", "0.01", "123456789.123", "1.500", "0.0000000001"])
_number = _rarely(st.one_of(_whole, _exact), _ODD["number"])
_computed = st.recursive(
    st.one_of(st.sampled_from(_NUMBERS), _number),
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from("+-*"), inner),
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
        st.builds("{}({})".format, st.sampled_from(["abs", "-"]), inner),
        st.builds("coalesce({}, {})".format, inner, inner),
    ),
    max_leaves=3,
)
_float = st.sampled_from(["0", "0.1", "0.7", "1.5", "-1.5", "16777217", "1000000000000", "0.000000000000001", "0.30"])
_floating = st.one_of(
    st.sampled_from(["ratio", "half"]),
    st.builds("coalesce(ratio, {})".format, _float),
)
_truths = st.sampled_from(["true", "false", "other"])
_boolean = st.one_of(
    st.sampled_from(["flag", "(flag)", "((flag))", "true", "false", "flag > false", "NOT flag <= other"]),
    st.builds("flag IS {}{}".format, st.sampled_from(["", "NOT "]), st.sampled_from(["TRUE", "FALSE", "UNKNOWN"])),
    st.builds("coalesce(flag, {})".format, _truths),
    st.builds("coalesce(other, flag, {}) = {}".format, _truths, _truths),
    _compared(st.just("flag"), _truths, _EQUAL, False),
)
_patterned = st.one_of(
    st.sampled_from(["note", "word", "code", "long", "doc", "label"]),
    st.builds("coalesce({}, {})".format, st.sampled_from(["note", "word"]), st.just("'a'")),
    st.builds("{}({})".format, st.sampled_from(["lower", "upper"]), st.sampled_from(["note", "word", "code"])),
)
_like = st.builds(
    "{} {}LIKE {}".format, _patterned, st.sampled_from(["", "NOT "]), st.sampled_from(list(map(_quoted, _PATTERNS)))
)
_cased = st.builds(
    "{}({}) {} {}".format, st.sampled_from(["lower", "upper"]), st.sampled_from(["note", "word", "code", "long"]),
    _EQUAL, st.sampled_from(["'a'", "'A'", "'k'", "'K'", "'i'", "'ss'", "''", "'s'", "'S'"]),
)  # fmt: skip


def _plain(name: str) -> st.SearchStrategy[str]:
    columns = st.sampled_from(_FAMILIES[name])
    ordered = name not in ("text", "uuid")
    operator = _ORDER if ordered else _rarely(_EQUAL, ["<", ">="])
    value = st.one_of(columns, st.builds("coalesce({}, {})".format, columns, _literals(name)))
    compared = _compared(value, _literals(name), operator, ordered)
    return st.one_of(
        compared, compared, st.builds("{} {} coalesce({}, {})".format, columns, operator, columns, columns)
    )


_null = st.builds(
    "{} {}".format, st.sampled_from([name for name in COLUMNS if name not in ("k", "version")]),
    st.sampled_from(["IS NULL", "IS NOT NULL", "ISNULL", "NOTNULL"]),
)  # fmt: skip
conditions = st.one_of(
    _boolean, _null, _like, _cased, _compared(st.sampled_from(_NUMBERS), _number, _ORDER, True),
    _compared(st.sampled_from(["huge", "abs(huge)", "-huge"]), st.sampled_from([*_WIDE, "huge", "big"]), _ORDER, True),
    _compared(st.sampled_from(["tiny", "abs(tiny)", "-tiny"]), st.sampled_from(VALUES["tiny"]), _ORDER, True),
    _compared(_computed, _computed, _ORDER, True), _compared(_floating, _float, _ORDER, True),
    _compared(st.just("long"), st.sampled_from([_quoted(text) for text in _LONG if text[-1] != " "]), _EQUAL, False),
    st.sampled_from(["ratio = half", "word = code", "note = word", "small < price", "day = local", "flag = 'true'"]),
    *map(_plain, _FAMILIES),
)  # fmt: skip
filters = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner),
        st.builds("{} {} {}".format, inner, st.sampled_from(["AND", "or"]), inner),
        st.builds("NOT ({})".format, inner),
        st.builds("NOT {}".format, inner),
    ),
    max_leaves=4,
)
"""Filters of which most are valid."""

_PARTS = re.compile(r"'(?:[^']|'')*'|\w+|[<>=!]+|\s+|.", re.DOTALL)
_WORDS = """
    5 'a' '' true NULL < > = <> LIKE IS NOT AND OR IN BETWEEN SYMMETRIC DISTINCT FROM UNKNOWN ( ) , + - * / % ||
    lower abs coalesce ::text ~ ^ -- /* */ ESCAPE ANY CASE user 1e5 0x1F E'' U&'' [ ] " . ; @ $1
"""
_OTHERS = [*list(COLUMNS)[1:], *[odd for words in _ODD.values() for odd in words], *_WORDS.split()]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A filter with some of its words left out, repeated, exchanged or replaced."""
    parts = _PARTS.findall(draw(filters))
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, max(len(parts) - 1, 0)))
        other = draw(st.sampled_from([None, "", *_OTHERS]))
        words = (
            [] if other == "" else [*parts[at : at + 1], " ", *parts[at : at + 1]] if other is None else [f" {other} "]
        )
        parts[at : at + 1] = words
    return "".join(parts)
