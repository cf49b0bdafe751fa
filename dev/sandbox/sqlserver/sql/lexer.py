"""T-SQL as tokens, and a cursor over them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dev.sandbox.sqlserver.errors import SqlError, unknown_statement

Kind = Literal["word", "quoted", "number", "text", "blob", "variable", "mark", "end"]
_TOKEN = re.compile(
    r"""(?P<skip>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<text>[Nn]?'[^']*(?:''[^']*)*')
    |(?P<quoted>\[[^\]]*(?:\]\][^\]]*)*\]|"[^"]*(?:""[^"]*)*")
    |(?P<blob>0[xX][0-9a-fA-F]*)
    |(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<variable>@@?[\w$\#]+)
    |(?P<word>[^\W\d][\w$\#]*)
    |(?P<mark><>|!=|>=|<=|::|[-=<>+*/%(),.;])""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    """A token: `value` without quotes, `start` its position in the text."""

    kind: Kind
    value: str
    start: int


def tokenize(text: str) -> list[Token]:
    """Split a batch into tokens, the last of kind `end`. Raises SqlError 102 for an unknown character."""
    tokens = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise unknown_statement(text[at:])
        kind = match.lastgroup
        if kind != "skip":
            tokens.append(Token(kind, _value(kind or "", match[0]), at))  # type: ignore[arg-type]
        at = match.end()
    return [*tokens, Token("end", "", len(text))]


def _value(kind: str, text: str) -> str:
    if kind == "text":
        return text[text.index("'") + 1 : -1].replace("''", "'")
    if kind == "quoted":
        return text[1:-1].replace(text[-1] * 2, text[-1])
    return text[2:] if kind == "blob" else text


class Cursor:
    """A position in a batch. Words are compared case-insensitively."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
        self.position = 0
        self.statement_start = 0

    @property
    def token(self) -> Token:
        """The next token."""
        return self.tokens[self.position]

    def take(self) -> Token:
        """Take the next token."""
        token = self.tokens[self.position]
        self.position += token.kind != "end"
        return token

    def sees(self, *words: str, after: int = 0) -> bool:
        """Whether these words or marks come next, or `after` a number of tokens; a quoted name is neither."""
        tokens: Sequence[Token] = self.tokens[self.position + after : self.position + after + len(words)]
        return [t.value.upper() for t in tokens if t.kind in ("word", "mark", "variable")] == list(words)

    def sees_end(self) -> bool:
        """Whether the batch is at its end."""
        return self.token.kind == "end"

    def accept(self, *words: str) -> bool:
        """Take these words or marks if they come next."""
        found = self.sees(*words)
        if found:
            self.position += len(words)
        return found

    def expect(self, *words: str) -> None:
        """Take these words or marks. Raises SqlError 102 if something else comes next."""
        if not self.accept(*words):
            raise self.unknown()

    def accept_any(self, *words: str) -> str:
        """Take one of these words or marks, if it comes next; else empty."""
        return next((word for word in words if self.accept(word)), "")

    def name(self) -> str:
        """Take an identifier."""
        if self.token.kind not in ("word", "quoted") or not self.token.value:
            raise self.unknown()
        return self.take().value

    def of_kind(self, kind: Kind) -> str:
        """Take a token of a kind."""
        if self.token.kind != kind:
            raise self.unknown()
        return self.take().value

    def unknown(self) -> SqlError:
        """Error 102 for the current statement."""
        return unknown_statement(self.text[self.statement_start :])
