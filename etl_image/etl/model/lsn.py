"""Positions in the write-ahead log (LSN): as Postgres writes them, and as numbers of bytes."""

import re
from typing import Annotated

from pydantic import AfterValidator

_WRITTEN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


def parse_lsn(text: str) -> int:
    """A position as a number. Raises ValueError for text that is none."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text[:40]}' is no position of the log, such as 0/16B3748")
    return (int(match[1], 16) << 32) + int(match[2], 16)


def write_lsn(position: int) -> str:
    """A position as text, in one form for each."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


Lsn = Annotated[str, AfterValidator(lambda text: write_lsn(parse_lsn(text)))]
"""A position as text, in one form for each."""
