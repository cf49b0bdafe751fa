"""Names: of pipelines, and of columns as both databases take them."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

from etl.errors import printable


def as_sql_server_sees(name: str) -> str:
    """A name folded as SQL Server's usual collations compare it; rather too many names are equal than too few."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).rstrip(" ")


def check_identifier(value: str) -> str:
    """Raise ValueError for what is no name of Postgres."""
    if not 1 <= len(value.encode()) <= 63 or not value.isprintable():
        raise ValueError(f"'{printable(value)}' is not a name that Postgres can have (1 to 63 bytes, printable)")
    return value


def _check_name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,47}", value):
        raise ValueError(f"'{printable(value)}' must be a lower-case letter, then letters, digits and _ (48 at most)")
    return value


PipelineName = Annotated[str, AfterValidator(_check_name)]
Identifier = Annotated[str, AfterValidator(check_identifier)]
"""A column's name: one that Postgres can have, SQL Server can have, too."""
