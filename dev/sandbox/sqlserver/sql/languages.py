"""The language of messages: us_english, or Deutsch for those errors that a test makes; their numbers are the same."""

import re

from dev.sandbox.sqlserver.errors import SqlError, unknown_statement

DEFAULT = "us_english"
_GERMAN = "deutsch"
# As sys.messages has them; what is in quotes stays as it is, in its order.
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
    """The name of a language as it is kept. Raises SqlError 102 for one that is not known."""
    if name.lower() not in (DEFAULT, _GERMAN):
        raise unknown_statement(f"LANGUAGE {name}")
    return name.lower()


def in_language(error: SqlError, language: str) -> SqlError:
    """The error in a language, if it is to be had there."""
    if language == DEFAULT or error.number not in _MESSAGES:
        return error
    words = _MESSAGES[error.number].format(*_NAMES.findall(error.message))
    return SqlError(error.number, words, error.severity, ends_transaction=error.ends_transaction)
