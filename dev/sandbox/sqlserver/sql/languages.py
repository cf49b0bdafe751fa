"""Language of messages: us_english, or Deutsch for the errors that tests cause; numbers are the same."""

import re

from dev.sandbox.sqlserver.errors import SqlError, unknown_statement

DEFAULT = "us_english"
_GERMAN = "deutsch"
# From sys.messages; the quoted parts of the English message are filled in, in their order.
_MESSAGES = {
    207: "Ungültiger Spaltenname {}.",
    208: "Ungültiger Objektname {}.",
    245: "Fehler beim Konvertieren des nvarchar-Werts {} in den Datentyp int.",
    2627: "Verletzung der PRIMARY KEY-Einschränkung {}. Ein doppelter Schlüssel kann in das Objekt {} nicht eingefügt"
    " werden. Der doppelte Schlüsselwert ist {}.",
    18456: "Fehler bei der Anmeldung für den Benutzer {}.",
}
_NAMES = re.compile(r"'[^']*'|\([^)]*\)")


def check_language(name: str) -> str:
    """Normalized name of a language. Raises SqlError 102 for an unknown one."""
    if name.lower() not in (DEFAULT, _GERMAN):
        raise unknown_statement(f"LANGUAGE {name}")
    return name.lower()


def in_language(error: SqlError, language: str) -> SqlError:
    """The error in a language, if there is a translation."""
    if language == DEFAULT or error.number not in _MESSAGES:
        return error
    words = _MESSAGES[error.number].format(*_NAMES.findall(error.message))
    return SqlError(error.number, words, error.severity, ends_transaction=error.ends_transaction)
