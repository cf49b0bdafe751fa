"""Names and values in the SQL that is sent to Postgres: quoted here and nowhere else."""


def quote_name(name: str) -> str:
    """A Postgres identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(value: str) -> str:
    """A Postgres string literal; E'' so that it means the same whatever standard_conforming_strings says."""
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
