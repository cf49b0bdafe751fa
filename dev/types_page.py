"""docs/types.md, from the tables of types: every type of Postgres and its form in SQL Server (`make docs-types`)."""

import textwrap

from etl.model.column_types import parse_column_type
from etl.model.predicate_literals import FAMILIES
from etl.model.type_table import AS_TEXT, ENUM, EXTENSION, FORMS, INTERNAL, OTHER, TYPES, Check, Form, TypeRow

_HEAD = """\
# Types

Written by `make docs-types` from `etl/model/type_table.py`. How a pipeline declares its columns:
[operations.md](operations.md#column-types).

*Exact*: the value is the same number, text, time or bytes. *Text*: it arrives as Postgres writes it, with all digits,
times in UTC, intervals as `1 day 02:03:04` and bytes as `\\\\x00`, whatever the settings of the role are. A *key* is
what may be in a pipeline's key, a *filter* what it may ask of the column. A row with a value that SQL Server does not
have is rejected, with its key and the reason, unless the filter drops it; nothing is rounded or cut.

| Postgres | SQL Server | arrives | key | filter | rejected |
|---|---|---|---|---|---|
"""
_REJECTED: dict[Check | None, str] = {
    "digits": "NaN, infinite, or more digits than p and s allow",
    "length": "longer than n UTF-16 code units",
    "finite": "NaN or infinite",
    "date": "outside the years 1 to 9999",
    "timestamp": "outside the years 1 to 9999",
    "time": "24:00:00",
    None: "",
}
_OTHERS = [
    ("enum", ENUM),
    ("arrays, ranges, multiranges, composites", OTHER),
    (
        "citext, hstore, ltree, cube, vector, and any other type of an extension or a user",
        EXTENSION,
    ),
]
_TAIL = """
A domain is resolved to its base type; its CHECK is not carried. `numeric` without precision may be declared
`numeric(p,s)`, and then values that do not fit are rejected, or `text`, which has every digit, NaN and infinity, and is
neither key nor compared. `numeric(5,-2)` is `numeric(7,0)`. `money` has two decimals; in a currency with more declare
`numeric(p,s)`. `oid` may also be declared `bigint`, and every type that arrives as text `text` or `varchar(n)`.

A key with a text of an extension (`citext`) is compared by its letters in the sink: `A` and `a` are two keys there, and
a change of one to the other is a new row. Its partitions are cut by a hash. Texts in a key may not end in a space,
which SQL Server ignores.

These types are refused, because they are internal to Postgres and their text does not hold the value; leave the column
out: pseudo-types such as `anyarray`, and
{internal}.
"""


def page() -> str:
    """The whole page."""
    rows = [*map(_row_of_type, TYPES, TYPES.values()), *_rows_of_forms()]
    rows += [_row_of_form(names, form) for names, form in _OTHERS]
    table = "".join(f"| {' | '.join(row)} |\n".replace("|  |", "| |") for row in rows)
    internal = textwrap.fill(", ".join(f"`{name}`" for name in INTERNAL), 119)
    return _HEAD + table + _TAIL.format(internal=internal)


def _row_of_type(name: str, row: TypeRow) -> tuple[str, ...]:
    arguments = {"numeric": "(p,s)", "varchar": "(n)", "char": "(n)"}.get(name, "")
    tsql = row.tsql.format(length="n", precision="p", scale="s")
    tsql += ", in UTC" if name == "timestamptz" else ""
    arrives = "text" if row.read == AS_TEXT else "exact"
    return (
        name + arguments,
        tsql,
        arrives,
        _key(row.can_be_key or name == "text", row.tsql),
        _asked(row.family),
        _REJECTED[row.check],
    )


def _rows_of_forms() -> list[tuple[str, ...]]:
    """A row for types that are carried alike."""
    alike: dict[Form, list[str]] = {}
    for name, form in FORMS.items():
        alike.setdefault(form, []).append(name)
    return [_row_of_form(", ".join(names), form) for form, names in alike.items()]


def _row_of_form(names: str, form: Form) -> tuple[str, ...]:
    declared = parse_column_type(form.declared.format(length=1))
    tsql = declared.tsql.replace("(1)", "(n)") if "{length}" in form.declared else declared.tsql
    names = names.replace("bit, bit varying", "bit(n), bit varying(n)")
    asked = _asked(declared.row.family) if form.is_compared else _asked("opaque")
    rejected = "" if "numeric(19" not in form.declared else "of more decimals than declared"
    return names, tsql, "text" if declared.is_text else "exact", _key(form.is_key, tsql), asked, rejected


def _key(can_be: bool, tsql: str) -> str:
    if not can_be:
        return "no"
    return "as varchar(n)" if tsql == "nvarchar(max)" else "yes"


def _asked(family: str) -> str:
    operators = FAMILIES[family].operators
    if "<" in operators:
        return "=, <, IN, BETWEEN"
    return ", ".join([each for each in operators if each != "<>"] or ["IS NULL"])


if __name__ == "__main__":
    print(page(), end="")
