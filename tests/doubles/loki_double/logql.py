"""The part of LogQL that this project uses; all else is refused with an error."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from . import RefusedError, not_implemented
from .limits import amount

Labels = dict[str, str]
Stage = Callable[[str, Labels], bool]
"""Whether a line stays; a parser adds to its labels."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\])*"|`[^`]*`)|(?P<duration>\d+(?:ms|[smhd])\w*)|(?P<word>[A-Za-z_]\w*)"""
    r"""|(?P<mark>\|=|\|~|!=|!~|=~|[=|{}()\[\],]))"""
)
# Syntax with the same meaning in Go's regular expressions and in Python's.
_COMMON = re.compile(
    r"(?:\\(?:[\W_]|[dDwWsSbB])|\(\?(?::|i\)|P<)|\((?!\?)|[*+?}](?!\+)|\{(?!,)|\[(?!\[)|[^\\(*+?}{\[$])*", re.DOTALL
)
# Of these Loki's filters of labels look for the rest, and not for the whole.
_LOOSE = re.compile(r"^(\(\?i\))?\.[*+]|\.[*+]\??$|\.[*+].*(?<!\\)\||(?<!\\)\|.*\.[*+]", re.DOTALL)
_NEEDS_A_VALUE = (
    "queries require at least one regexp or equality matcher that does not have an empty-compatible value."
    ' For instance, app=~".*" does not meet this requirement, but app=~".+" will'
)


@dataclass(frozen=True)
class Query:
    """A parsed query: of lines or, with a `window`, of their number, summed up `by` labels."""

    matchers: tuple[Stage, ...]
    stages: tuple[Stage, ...]
    window: int = 0
    by: tuple[str, ...] = ()

    def selects(self, labels: Labels) -> bool:
        """Whether a stream is asked for."""
        return all(matches("", labels) for matches in self.matchers)

    def keeps(self, line: str, labels: Labels) -> bool:
        """Whether a line matches. Fields that the stages extract are added to the labels."""
        return all(keep(line, labels) for keep in self.stages)


def parse(text: str) -> Query:
    """Read a query. Raises RefusedError."""
    parser = _Parser(text)
    query = parser.metric() if parser.next_is("sum") else parser.lines()
    parser.end()
    return query


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def metric(self) -> Query:
        """`sum by (a, b) (count_over_time({…} … [5m]))`."""
        self._take("sum")
        by: list[str] = []
        if self.next_is("by"):
            self._take("by", "(")
            by.append(self._take_kind("word"))
            while self._if_next(","):
                by.append(self._take_kind("word"))
            self._take(")")
        self._take("(", "count_over_time", "(")
        inner = self.lines()
        self._take("[")
        window = amount(self._take_kind("duration"))
        self._take("]", ")", ")")
        return Query(inner.matchers, inner.stages, window, tuple(by))

    def lines(self) -> Query:
        """A stream selector `{…}` and its stages."""
        self._take("{")
        matchers = [self._matcher()]
        while self._if_next(","):
            matchers.append(self._matcher())
        self._take("}")
        if all(matches("", {}) for matches in matchers):
            raise RefusedError(f"parse error : {_NEEDS_A_VALUE}")
        stages: list[Stage] = []
        while mark := self._if_next("|", "|=", "|~", "!=", "!~"):
            if mark != "|":
                stages.append(_line_filter(mark, self._string()))
            elif self.next_is("json"):
                stages.append(self._json())
            else:
                stages.append(self._either())
        return Query(tuple(matchers), tuple(stages))

    def _json(self) -> Stage:
        """`json level="level"`: a field of the line as a label."""
        self._take("json")
        name = self._take_kind("word")
        self._take("=")
        field = self._string()
        if not re.fullmatch(r"[A-Za-z_]\w*", field):
            raise not_implemented(f"the path {field} in a line of JSON")
        return _json_field(name, field)

    def _either(self) -> Stage:
        """Comparisons of labels with `and` between them, and these with `or`."""
        sides = [self._both()]
        while self._if_next("or"):
            sides.append(self._both())
        return lambda line, labels: any(side(line, labels) for side in sides)

    def _both(self) -> Stage:
        sides = [self._filter()]
        while self._if_next("and"):
            sides.append(self._filter())
        return lambda line, labels: all(side(line, labels) for side in sides)

    def _filter(self) -> Stage:
        return _label_filter(self._take_kind("word"), self._take_kind("mark"), self._string())

    def _matcher(self) -> Stage:
        name, mark, value = self._take_kind("word"), self._take_kind("mark"), self._string()
        return _compare(name, mark, expression(value, re.DOTALL) if "~" in mark else value)

    def _string(self) -> str:
        quoted = self._take_kind("string")
        if quoted.startswith("`"):
            return quoted[1:-1]
        try:
            return str(json.loads(quoted))
        except ValueError:
            raise not_implemented(f"the string {quoted}") from None

    def next_is(self, *what: str) -> bool:
        """Whether the next token is one of these."""
        found = _TOKEN.match(self._text, self._at)
        return bool(found) and found[0].strip() in what  # type: ignore[index]

    def end(self) -> None:
        """Raise RefusedError if any input is left."""
        if self._text[self._at :].strip():
            raise self._unknown()

    def _if_next(self, *what: str) -> str:
        return self._take(next(each for each in what if self.next_is(each))) if self.next_is(*what) else ""

    def _take(self, *what: str) -> str:
        for each in what:
            if not self.next_is(each):
                raise self._unknown()
            self._at = _TOKEN.match(self._text, self._at).end()  # type: ignore[union-attr]
        return what[-1]

    def _take_kind(self, kind: str) -> str:
        found = _TOKEN.match(self._text, self._at)
        if not found or found[kind] is None:
            raise self._unknown()
        self._at = found.end()
        return str(found[kind])

    def _unknown(self) -> RefusedError:
        rest = self._text[self._at :].strip()
        return not_implemented(f"what begins at {rest[:60]!r} in the query {self._text}" if rest else f"{self._text!r}")


def _compare(name: str, mark: str, value: str | re.Pattern[str]) -> Stage:
    """Whether a label matches; a missing one is empty."""
    if isinstance(value, str) and mark in ("=", "!="):
        return lambda _, labels: (labels.get(name, "") == value) is (mark == "=")
    if isinstance(value, re.Pattern) and mark in ("=~", "!~"):
        return lambda _, labels: bool(value.fullmatch(labels.get(name, ""))) is (mark == "=~")
    raise not_implemented(f"{mark} between a label and what it is compared with")


def _label_filter(name: str, mark: str, value: str) -> Stage:
    """As in a selector of streams, but that Loki looks for some expressions anywhere in the label."""
    if "~" not in mark:
        return _compare(name, mark, value)
    if value in (".+", ".*"):
        return _compare(name, mark, re.compile(value, re.DOTALL))
    if _LOOSE.search(value) or not value:
        raise not_implemented(f"the comparison of {name} with {value!r}, which Loki finds within a label, too")
    return _compare(name, mark, expression(value))


def expression(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """A regular expression that means the same in Go and here; others are refused."""
    if not _COMMON.fullmatch(pattern):
        raise not_implemented(f"the regular expression {pattern}")
    try:
        return re.compile(pattern, flags | (re.ASCII if re.search(r"\\[dDwWsSbB]", pattern) else 0))
    except re.error as error:
        raise RefusedError(f"parse error : error parsing regexp: {error}: `{pattern}`") from None


def _line_filter(mark: str, value: str) -> Stage:
    if mark in ("|=", "!="):
        return lambda line, _: (value in line) is (mark == "|=")
    pattern = expression(value)
    return lambda line, _: bool(pattern.search(line)) is (mark == "|~")


def _json_field(name: str, field: str) -> Stage:
    def extract(line: str, labels: Labels) -> bool:
        try:
            record = json.loads(line, parse_int=str, parse_float=str) if line[:1] in '"{[' else None
        except ValueError:
            record = None
        if record is None and line:
            labels["__error__"] = "JSONParserErr"
            return True
        value = record.get(field) if isinstance(record, dict) else None
        if isinstance(value, bool):
            value = str(value).lower()
        if isinstance(value, dict | list):
            raise not_implemented(f"the field {field}, which is no single value in a line")
        labels[f"{name}_extracted" if name in labels else name] = value or ""
        return True

    return extract
