"""Table names with their schema, as people write them: quoted as in the table's database, or unquoted.

Unquoted text is taken literally, including capitals and spaces.
"""

import re

from etl.errors import printable

_QUOTED = {
    '"': re.compile(r'"(?P<name>([^"]|"")*)"'),
    "[": re.compile(r"\[(?P<name>([^\]]|\]\])*)\]"),
}
_ENDS = {'"': '"', "[": "]"}
_AMBIGUOUS = re.compile(r'["[]|.*\.', re.DOTALL)


def split_source(text: str) -> tuple[str, str]:
    """Schema and table of a name as Postgres reads it; without quotes, all after the first dot is the table.

    Raises ValueError, with a sentence, for anything else.
    """
    schema, rest = _first_part(text, '"')
    if not rest:
        raise ValueError(f"'{printable(text)}' must name the schema too, for example public.{printable(text)}")
    if not rest[1:].startswith('"'):
        return schema, rest[1:]
    table, more = _first_part(rest[1:], '"')
    if more:
        raise ValueError(
            f"'{printable(text)}' has three parts; write schema and table alone: SOURCE_URL names the database"
        )
    return schema, table


def split_sink(text: str) -> tuple[str, str]:
    """Schema and table of a name as SQL Server reads it. Raises ValueError, with a sentence, for anything else."""
    schema, rest = _first_part(text, '"[')
    if not rest:
        raise ValueError(f"'{printable(text)}' must name the schema too, for example dbo.{printable(text)}")
    table, more = _first_part(rest[1:], '"[')
    if more:
        raise ValueError(
            f"'{printable(text)}' has three parts; write schema and table alone: SINK_URL names the database."
            " A name that has a dot in it is written in brackets, as dbo.[a.b]"
        )
    return schema, table


def written(schema: str, table: str) -> str:
    """A name that both functions parse to these, quoted only if needed."""
    return ".".join('"' + name.replace('"', '""') + '"' if _AMBIGUOUS.match(name) else name for name in (schema, table))


def _first_part(text: str, quotes: str) -> tuple[str, str]:
    """The first part of a name, and the rest from the dot on."""
    if text[:1] not in tuple(quotes):
        name, dot, rest = text.partition(".")
        return name, dot + rest
    match = _QUOTED[text[0]].match(text)
    if match is None or text[match.end() :][:1] not in ("", "."):
        raise ValueError(
            f"'{printable(text)}' begins with {text[0]} and has no {_ENDS[text[0]]} at the end of the name;"
            f" inside of it, {_ENDS[text[0]]} is written twice"
        )
    return match["name"].replace(_ENDS[text[0]] * 2, _ENDS[text[0]]), text[match.end() :]
