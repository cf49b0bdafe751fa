"""SQL Server's errors by number: which of them a retry does not resolve, and advice.

The numbers are those of sys.messages, the same in every language of the server. Errors that are not listed are retried.
https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mssql_python
from mssql_python import cursor as driver
from mssql_python import ddbc_bindings

from etl.config import entra
from etl.errors import ConfigurationError, DataError, EtlError, TryAgainError
from etl.logs import redact
from etl.model.masking import Mask
from etl.sqlserver.sql import STAGING_NAME
from etl.sqlserver.state import State

_PREPARE = "Run `etl prepare-sink`, which makes what is missing and grants what loads need."
_ALTER = "Have the table altered or dropped: a load makes a table that is missing."
_TRIGGER = "A trigger of the sink table refuses the rows: have it changed."
_CONSTRAINT = (
    "A constraint of the sink table, or of a table that refers to it, refuses that: have it dropped, filter such rows,"
    ' or, if they are gone at the source, use deletes="keep" or "mark".'
)
_SPACE = "Free space on the server's disk, or have the database grown; with Express a database has 10 GB at most."
_LOCKED = (
    "Another session holds locks in the sink, such as a reader's in a transaction that stays open: find it in"
    " sys.dm_tran_locks, and have it ended; SINK_LOCK_TIMEOUT is how long loads wait."
)
_WEAK = "Choose another SINK_PASSWORD, or SINK_EXPORTER_PASSWORD or SINK_BACKUP_PASSWORD where these are set."
_BACKUP = "The server's own account must be able to read and write BACKUP_FOLDER."

CONFIGURATION: dict[int, str] = {
    102: "",  # Incorrect syntax
    156: "",  # Incorrect syntax near a keyword
    206: _ALTER,  # Operand type clash
    207: _ALTER,  # Invalid column name
    208: _PREPARE,  # Invalid object name
    213: _ALTER,  # Number of supplied values does not match
    130: "",  # Cannot perform an aggregate function on a subquery
    217: _TRIGGER,  # Nesting level exceeded
    229: _PREPARE,  # Permission denied on an object
    230: _PREPARE,  # Permission denied on a column
    257: _ALTER,  # Implicit conversion is not allowed
    262: _PREPARE,  # Permission denied in a database
    271: f"It is a computed column. {_ALTER}",
    272: f"It is a rowversion. {_ALTER}",  # Cannot update a timestamp column
    273: f"It is a rowversion. {_ALTER}",  # Cannot insert into a timestamp column
    297: "",  # No permission to perform this action
    300: "",  # Permission on the server was denied
    334: _TRIGGER,  # OUTPUT without INTO on a table with triggers
    448: "",  # Invalid collation
    451: _ALTER,  # Collation conflict in a statement
    457: _ALTER,  # Collation conflict in a conversion
    468: _ALTER,  # Collation conflict in a comparison
    544: f"It is an IDENTITY column. {_ALTER}",  # Cannot insert explicit value
    911: _PREPARE,  # Database does not exist
    916: _PREPARE,  # Not able to access the database
    1088: _PREPARE,  # Cannot find the object, or no permission
    1701: "A row's columns of fixed length have more than 8,060 bytes together: declare char columns as varchar.",
    1702: "SQL Server has 1,024 columns in a table at most.",
    1801: "",  # Database already exists
    1904: "SQL Server has 32 columns in a key at most.",
    1919: "A key column needs a length: declare it as varchar(n).",
    1944: "A key has 900 bytes in SQL Server at most.",
    2705: _ALTER,  # Column names must be unique
    2760: _PREPARE,  # Schema does not exist, or no permission
    3154: "",  # The backup is of another database
    3169: "",  # The backup was made by a newer version
    3201: _BACKUP,  # Cannot open backup device
    3241: "",  # The media family is incorrectly formed
    3609: _TRIGGER,  # The transaction ended in the trigger
    3616: _TRIGGER,  # An error was raised during trigger execution
    3701: "",  # Cannot drop, does not exist or no permission
    3906: "",  # The database is read-only
    4902: _PREPARE,  # Cannot find the object to alter, or no permission
    8102: f"It is an IDENTITY column. {_ALTER}",  # Cannot update identity column
    15007: "",  # Not a valid login
    15063: "",  # The login already has an account under a different user name
    15115: _WEAK,  # used recently
    15116: _WEAK,  # too short
    15118: _WEAK,  # not complex enough
    15151: "",  # Cannot find, or no permission
    15247: "",  # No permission to perform this action
    33130: "SINK_URL names the service principal, or the managed identity, as Entra ID shows it.",
    33159: "Set SINK_ADMIN_CLIENT_ID to the server's administrator in Entra ID, and SINK_ADMIN_CLIENT_SECRET.",
    40508: "Azure SQL Database has no USE, and backs up by itself.",
    40510: "This statement is not supported in Azure SQL Database.",
    40514: "This statement is not supported in Azure SQL Database.",
    40517: "This option is not supported in Azure SQL Database.",
    40615: "Let the address in by the firewall of the Azure server.",
}
"""Number to advice: errors that need a person to change something."""
DATA: dict[int, str] = {
    220: "",  # Arithmetic overflow for a small type
    232: "",  # Arithmetic overflow for a type
    241: "",  # Conversion of a date or time failed
    242: "",  # A date or time is out of range
    245: "",  # Conversion failed
    248: "",  # Conversion overflowed an int
    511: "A row has more than 8,060 bytes in SQL Server: declare long texts as text, which is kept apart.",
    515: "Have the column of the sink table altered to NULL, or filter such rows.",  # Cannot insert NULL
    547: _CONSTRAINT,  # Conflict with a CHECK or FOREIGN KEY constraint
    1946: "A key has 900 bytes in SQL Server at most; filter rows whose key is longer.",
    2601: "",  # Duplicate key in a unique index
    2627: "",  # Duplicate key in a constraint
    2628: "",  # Would be truncated
    4815: "",  # Invalid column length from the bulk copy's client
    8114: "",  # Error converting data type
    8115: "",  # Arithmetic overflow
    8134: "",  # Divide by zero
    8152: "",  # Would be truncated, before 2019
    8169: "",  # No uniqueidentifier
    9803: "",  # Invalid data for a type
}
"""Number to advice: rows that the sink cannot take."""
TRY_AGAIN: dict[int, str] = {
    1105: _SPACE,  # The filegroup is full
    1205: "",  # Deadlock victim
    1222: _LOCKED,  # Lock request timed out
    1827: _SPACE,  # The licensed size would be exceeded
    3930: "",  # The transaction cannot be committed
    9002: f"The transaction log is full. {_SPACE}",
    18451: "",  # Only administrators may connect
    40197: "",  # Azure: error processing the request
    40501: "",  # Azure: the service is busy
    40544: "The database has reached its size quota: have it raised.",  # Azure
    40613: "",  # Azure: database is not currently available
}
"""Number to advice: errors that are retried, as are those that are not listed."""
_UNPREPARED = {208, 229, 230, 262, 916, 2760}
_GONE = {208, 3701, 4902}
_FIRST_USER_DEFINED = 50_000
"""User-defined errors, by RAISERROR and THROW: a trigger refuses something."""
_OF_SERVER = "[SQL Server]"
_OF_BULK_COPY = re.compile(r"Sql Error: (\d+):")
_NUMBERS = "sink_numbers"
_EXTERNAL = "token-identified principal"
_NO_USER = (
    "Entra ID gave the token, and the sink does not take it: `etl prepare-sink` makes the user of that identity, by the"
    " name in SINK_URL."
)
# At connect the driver has no error number, only these texts of its own for the SQLSTATEs 28000 and 42000.
_LOGIN_FAILED = "Invalid authorization specification"
_REFUSALS = (_LOGIN_FAILED, "Syntax error or access violation")
# A server that starts, or that is in single-user mode, refuses logins: 17142, 17187, 18401, 18451, 18461, and in Azure
# 40613, 40501.
_NOT_NOW = re.compile(
    r"script upgrade mode|Only (one )?administrator|not ready to accept|service has been paused|is starting up"
    r"|not currently available|is currently busy",
    re.IGNORECASE,
)
# Messages of OpenSSL and of the drivers, which are not translated.
_TLS = re.compile(r"certificate verify failed|Encryption not supported", re.IGNORECASE)


class NotOpenError(mssql_python.OperationalError):
    """The server accepts the login but does not open the database for it."""

    def __init__(self, state: State) -> None:
        super().__init__("Server rejected the connection", state.words)
        self.state = state


@dataclass(frozen=True)
class Answer:
    """An error of the server, translated. `problem` is the code of `etl check`; `words` end with advice."""

    kind: type[EtlError]
    problem: str
    words: str


def numbers(error: Exception) -> list[int]:
    """The numbers of an error in the server's order; none if the driver has none, as for a failed login."""
    found: list[int] | None = getattr(error, _NUMBERS, None)
    return found if found is not None else [int(number) for number in _OF_BULK_COPY.findall(str(error))]


def is_refusal(error: Exception) -> bool:
    """Whether a connection was refused for its login or database, and not because the server is not ready."""
    return getattr(error, "driver_error", "") in _REFUSALS and not _NOT_NOW.search(str(error))


def explain(error: Exception, secrets: Sequence[str], mask: Mask | None = None) -> Answer:
    """Translate an error: its kind, and the server's message without the driver's prefix, redacted.

    With a `mask` also without values of sensitive columns.
    """
    if isinstance(error, NotOpenError):
        kind: type[EtlError] = TryAgainError if error.state.may_pass else ConfigurationError
        return Answer(kind, error.state.problem, error.state.words)
    if refused := entra.cause_of(error):
        return Answer(type(refused), refused.problem, str(refused))
    text = redact(str(error), list(secrets))
    words = text.split("DDBC Error:")[-1].split(_OF_SERVER)[-1].strip().splitlines()[0]
    found = numbers(error)
    if found:
        kind, advice = _known(found)
        # A later attempt at the same partition drops the staging tables of the earlier ones.
        if STAGING_NAME.search(words) and _GONE & set(found):
            kind, advice = TryAgainError, ""
        problem = "unprepared" if _UNPREPARED & set(found) else "connection"
        message = _without_values(words, found, mask) if mask else words
        return Answer(kind, problem, f"{message} {advice}".rstrip())
    if _TLS.search(text):
        advice = (
            " Name the authority that signed its certificate as SINK_CA_FILE, or the name that stands in it as"
            " hostnameincertificate in SINK_URL."
        )
        return Answer(ConfigurationError, "connection", words + advice)
    if isinstance(error, mssql_python.Error) and error.driver_error == _LOGIN_FAILED and is_refusal(error):
        return Answer(ConfigurationError, "login", f"{words} {_NO_USER if _EXTERNAL in words else ''}".rstrip())
    return Answer(TryAgainError, "connection", mask.words(words) if mask else words)


def _without_values(words: str, found: Sequence[int], mask: Mask) -> str:
    """The server's message without values; errors of configuration and those to retry name tables and columns only."""
    if all(number in CONFIGURATION or number in TRY_AGAIN for number in found):
        return words
    if mask.covers_any and any(number >= _FIRST_USER_DEFINED for number in found):
        return f"Error {found[0]}, whose words are withheld: they may hold a value of a sensitive column."
    masked = mask.words(words)
    return masked if masked == words else f"{masked} (error {found[0]})"


def _known(found: Sequence[int]) -> tuple[type[EtlError], str]:
    """The kind of the first known number, and advice, which may be empty."""
    for number in found:
        for kind, known in ((ConfigurationError, CONFIGURATION), (DataError, DATA), (TryAgainError, TRY_AGAIN)):
            if number in known:
                return kind, known[number]
    # A trigger's own error is followed by a known one about the transaction.
    if any(number >= _FIRST_USER_DEFINED for number in found):
        return ConfigurationError, _TRIGGER
    return TryAgainError, ""


def _raise_with_numbers(handle_type: int, handle: Any, ret: int) -> None:
    """Call the driver's function, which drops the error numbers, and attach them to the exception."""
    records = ddbc_bindings.DDBCSQLGetAllDiagRecords(handle) if ret < 0 else []  # type: ignore[attr-defined]
    try:
        _raise(handle_type, handle, ret)
    except mssql_python.Error as error:
        # A record is ("[SQLSTATE] (number)", message). In the driver's own errors the number is one of the system's.
        states = (state for state, message in records if _OF_SERVER in message)
        setattr(error, _NUMBERS, [int(match[1]) for state in states if (match := re.search(r"\((\d+)\)", state))])
        raise


_raise = driver.check_error  # type: ignore[attr-defined]
# The driver's exceptions have the message only, in the server's language.
driver.check_error = _raise_with_numbers  # type: ignore[attr-defined]
