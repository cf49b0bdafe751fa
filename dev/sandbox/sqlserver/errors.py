"""Errors with SQL Server's numbers and messages (sys.messages)."""


class SqlError(Exception):
    """An error for the client: SQL Server's number, its message, and its severity ("class" in TDS).

    `ends_transaction`: also without XACT_ABORT, as for a deadlock victim and for an error in a trigger.
    """

    def __init__(self, number: int, message: str, severity: int = 16, *, ends_transaction: bool = False) -> None:
        super().__init__(number, message)
        self.ends_transaction = ends_transaction
        self.number = number
        self.message = message
        self.severity = severity


class ConnectionCutError(Exception):
    """The connection is closed without a reply: the client left, or a fault asks for it."""


class AttentionError(Exception):
    """The client has cancelled the running statement (ATTENTION)."""


def unknown_statement(text: str) -> SqlError:
    """Error 102 for text outside the grammar; quotes its first 300 characters."""
    return SqlError(102, f"the SQL Server double does not know this statement: {text.strip()[:300]}", 15)


def unknown_object(name: str) -> SqlError:
    """Error 208: there is no such table."""
    return SqlError(208, f"Invalid object name '{name}'.")


def unknown_column(name: str) -> SqlError:
    """Error 207: no table in reach has such a column."""
    return SqlError(207, f"Invalid column name '{name}'.")


def deadlock_victim(session_id: int) -> SqlError:
    """Error 1205: the transaction was rolled back and may be run again."""
    return SqlError(
        1205,
        f"Transaction (Process ID {session_id}) was deadlocked on lock resources with another process and has been"
        " chosen as the deadlock victim. Rerun the transaction.",
        13,
        ends_transaction=True,
    )


def lock_timeout() -> SqlError:
    """Error 1222: a statement has waited for a lock as long as SET LOCK_TIMEOUT says."""
    return SqlError(1222, "Lock request time out period exceeded.")


def null_not_allowed(column: str, table: str, verb: str) -> SqlError:
    """Error 515; `table` with database and schema, `verb` INSERT or UPDATE."""
    return SqlError(
        515,
        f"Cannot insert the value NULL into column '{column}', table '{table}'; column does not allow nulls."
        f" {verb} fails.",
    )


def duplicate_key(constraint: str, table: str, value: str) -> SqlError:
    """Error 2627; `table` with its schema, `value` the key's values joined by commas."""
    return SqlError(
        2627,
        f"Violation of PRIMARY KEY constraint '{constraint}'. Cannot insert duplicate key in object '{table}'."
        f" The duplicate key value is ({value}).",
        14,
    )


TOKEN_USER = "<token-identified principal>"
"""The user in the message about a login by a token."""


def login_failed(login: str, why: str = "") -> SqlError:
    """Error 18456: wrong password or no such login; of a token the server says more."""
    return SqlError(18456, f"Login failed for user '{login}'. {why}".rstrip(), 14)


def collation_conflict(left: str, right: str, operation: str) -> SqlError:
    """Error 468: two columns with different collations are compared."""
    return SqlError(
        468, f'Cannot resolve the collation conflict between "{left}" and "{right}" in the {operation} operation.'
    )


def cannot_open(database: str) -> SqlError:
    """Error 4060, which 18456 follows."""
    return SqlError(4060, f'Cannot open database "{database}" requested by the login. The login failed.', 11)
