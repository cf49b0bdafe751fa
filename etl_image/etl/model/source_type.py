"""Types of the source's columns, as Postgres' catalogue has them: how each is declared, and how it is read."""

from collections.abc import Mapping
from dataclasses import dataclass

from etl.model.column_types import ColumnType, parse_column_type, plain_name
from etl.model.type_table import AS_TEXT, ENUM, EXTENSION, FORMS, INTERNAL, OTHER, TYPES, Form, TypeRow

ARRAY, _BASE, _ENUM, _PSEUDO = "A", "b", "e", "p"
_TEXTS = ("text", "varchar")


@dataclass(frozen=True)
class SourceType:
    """The type of a column of the source, after domains are resolved.

    `name`: as format_type writes it, without arguments; `written`: with them. `kind`: pg_type's typtype, A for arrays.
    `is_required`: the source ensures that it is not null.
    """

    name: str
    kind: str = _BASE
    written: str = ""
    is_required: bool = False

    @property
    def row(self) -> TypeRow | None:
        """Its row in the table of column types, None for types that are carried in the form of another."""
        return TYPES.get(plain_name(self.name)) if self.kind == _BASE else None

    @property
    def form(self) -> Form:
        """Its form, if it has no row."""
        if self.kind == _ENUM:
            return ENUM
        return FORMS.get(self.name, EXTENSION) if self.kind == _BASE else OTHER

    @property
    def refusal(self) -> str:
        """Why it cannot be carried, as the end of a sentence; empty if it can."""
        if self.kind == _PSEUDO or self.name in INTERNAL:
            return f"{self.name}, which is internal to Postgres; leave the column out"
        return ""

    @property
    def is_enum(self) -> bool:
        """Whether its values are labels, of which others are refused by the server."""
        return self.kind == _ENUM

    def is_carried_by(self, declared: ColumnType) -> bool:
        """Whether a column of this type can be declared so. Whether each value fits is checked row by row."""
        name = plain_name(self.name)
        if self.row is not None:
            return name in (declared.name, *declared.row.carries) or (name == "numeric" and declared.name in _TEXTS)
        form = plain_name(self.form.declared.partition("(")[0])
        return declared.name in (_TEXTS if form in _TEXTS else (form,))

    def read_as(self, declared: ColumnType) -> str:
        """The expression that the source sends for a column of this type, where {} is the column."""
        if self.row is None:
            return self.form.read
        return AS_TEXT if self._is_text_of_number(declared) else self.row.read

    def can_be_key(self, declared: ColumnType) -> bool:
        """Whether two values are equal in Postgres exactly where they are in the sink."""
        return not self._is_text_of_number(declared) if self.row else self.form.is_key

    def is_compared(self, declared: ColumnType) -> bool:
        """Whether a filter decides as Postgres does about the values themselves."""
        return not self._is_text_of_number(declared) if self.row else self.form.is_compared

    @property
    def is_ordered(self) -> bool:
        """Whether Postgres compares it by an own operator, and no value is null."""
        return self.is_required and (self.row is not None or self.form.is_ordered)

    def declaration(self) -> str:
        """How a pipeline declares a column of this type, without `null`.

        Raises ValueError, with a sentence, for a type that cannot be carried, and for a numeric without precision.
        """
        if self.refusal:
            raise ValueError(f"it is {self.refusal}")
        if self.row is None and self.name not in FORMS:
            return self.form.declared
        written = self.written or self.name
        try:
            return str(parse_column_type(written))
        except ValueError:
            # Any length, or one that no nvarchar(n) has.
            if plain_name(self.name) in (*_TEXTS, "char"):
                return "text"
            raise

    def declaration_or_text(self) -> str:
        """The same; text for a numeric without precision, or with more digits than a decimal of SQL Server has."""
        try:
            return self.declaration()
        except ValueError:
            if self.row is None or self.name != "numeric":
                raise
            return "text"

    def _is_text_of_number(self, declared: ColumnType) -> bool:
        return plain_name(self.name) == "numeric" and declared.name in _TEXTS


SourceTypes = Mapping[str, SourceType]
"""By the name of the column; one that is missing is of the type that is declared."""


def reads(types: Mapping[str, ColumnType], source: SourceTypes) -> dict[str, str]:
    """The expression that the source sends for each column, where {} is the column."""
    return {name: source[name].read_as(column) if name in source else column.row.read for name, column in types.items()}
