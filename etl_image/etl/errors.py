"""Errors by what the person, or Airflow, should do next.

The exit codes are those of sysexits.h, so that a scheduler can tell "do not retry" from "try again".
"""

from enum import IntEnum

_MOST_PRINTED = 200


class ExitCode(IntEnum):
    """How an `etl` process ends."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    DATA = 65
    TRY_AGAIN = 75
    CONFIGURATION = 78


DO_NOT_RETRY = frozenset({ExitCode.USAGE, ExitCode.DATA, ExitCode.CONFIGURATION})
"""Exit codes after which the same command would only fail again."""


def printable(value: object) -> str:
    """A name or value from outside, for messages: at most 200 characters, control characters escaped."""
    text = str(value)
    cut = text if len(text) <= _MOST_PRINTED else text[:_MOST_PRINTED] + "…"
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in cut)


class EtlError(Exception):
    """A failure whose message is a sentence: what, where, and what to do."""

    exit_code: ExitCode = ExitCode.UNEXPECTED


class ConfigurationError(EtlError):
    """Something a person must change first: a setting, a password, a table, a grant."""

    exit_code = ExitCode.CONFIGURATION


class DataError(EtlError):
    """Rows that cannot be carried exactly, or more of them than the pipeline tolerates."""

    exit_code = ExitCode.DATA


class TryAgainError(EtlError):
    """A failure that a retry may resolve: a network, a lock, a full disk."""

    exit_code = ExitCode.TRY_AGAIN
