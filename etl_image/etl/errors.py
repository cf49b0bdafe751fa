"""What can go wrong, sorted by what the person (or Airflow) should do next.

The exit codes are those of sysexits.h, so that a scheduler can tell "do not retry" from "try again".
"""

from enum import IntEnum


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


class EtlError(Exception):
    """A failure told in one sentence: what, where, and what to do."""

    exit_code: ExitCode = ExitCode.UNEXPECTED


class ConfigurationError(EtlError):
    """Something a person must change first: a setting, a password, a table, a grant."""

    exit_code = ExitCode.CONFIGURATION


class DataError(EtlError):
    """Rows that cannot be carried exactly, or more of them than the pipeline tolerates."""

    exit_code = ExitCode.DATA


class TryAgainError(EtlError):
    """Something that may be gone next time: a network, a lock, a full disk."""

    exit_code = ExitCode.TRY_AGAIN
