"""Encryption of files for public keys of age, and decryption with a private one, as streams.

The format is that of age (age-encryption.org/v1): `age --decrypt --identity KEY FILE` reads them too.
"""

from collections.abc import Sequence
from pathlib import Path

import pyrage
from pydantic import SecretStr
from pyrage import x25519

from etl.errors import ConfigurationError

_PRIVATE = "AGE-SECRET-KEY-"


def read_recipients(text: str) -> list[x25519.Recipient]:
    """The public keys in a text. Raises ConfigurationError for another word, without it: it may be a private key."""
    recipients = []
    for number, word in enumerate(text.replace(",", " ").split(), 1):
        try:
            recipients.append(x25519.Recipient.from_str(word))
        except pyrage.RecipientError:
            private = " It is a private key, which has no place there." if word.upper().startswith(_PRIVATE) else ""
            raise ConfigurationError(
                f"BACKUP_RECIPIENTS: word {number} is no public key of age, which begins with age1.{private}"
            ) from None
    return recipients


def encrypt(source: Path, target: Path, recipients: Sequence[x25519.Recipient]) -> None:
    """Write a file encrypted so that the private key of any of the recipients decrypts it."""
    with source.open("rb") as reader, target.open("wb") as writer:
        pyrage.encrypt_io(reader, writer, recipients)


def decrypt(source: Path, target: Path, identity: SecretStr | None, name: str) -> None:
    """Write a file decrypted. Raises ConfigurationError if `name` is for another private key, or damaged."""
    identities = _read_identities(identity, name)
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            pyrage.decrypt_io(reader, writer, identities)
        except (pyrage.DecryptError, OSError) as error:
            # Errors of the system have an errno; the library's, for a changed or truncated file, have none.
            if getattr(error, "errno", None) is not None:
                raise
            raise ConfigurationError(
                f"{name} cannot be decrypted: {str(error).rstrip('.')}. It is damaged, or BACKUP_IDENTITY is the"
                " private key of none that BACKUP_RECIPIENTS named when it was copied. No other key reads it."
            ) from None


def _read_identities(identity: SecretStr | None, name: str) -> list[x25519.Identity]:
    """The private keys in the text of a key file of age, which may have comments. Raises ConfigurationError."""
    if identity is None:
        raise ConfigurationError(
            f"{name} is encrypted: set BACKUP_IDENTITY to the private key (AGE-SECRET-KEY-1…); scripts/restore.sh does"
            " that with --fetch --identity FILE."
        )
    lines = [line.strip() for line in identity.get_secret_value().splitlines()]
    try:
        found = [x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except pyrage.IdentityError:
        found = []
    if not found:
        raise ConfigurationError("BACKUP_IDENTITY is no private key of age, which begins with AGE-SECRET-KEY-1.")
    return found
