"""Quoting of names and values in SQL for Postgres."""

from etl.model.table_name import TableName


def quote_name(name: str) -> str:
    """A Postgres identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(value: str) -> str:
    """A Postgres string literal; E'' has one meaning whatever standard_conforming_strings is."""
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def quote_table(table: TableName) -> str:
    """A Postgres table, quoted."""
    return f"{quote_name(table.schema_name)}.{quote_name(table.table)}"
