"""Passwords: where one is read from, and every form in which one could be printed. Needs only Python."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

from etl.errors import ConfigurationError

OPTIONS = frozenset({"password", "pwd", "sslpassword", "oauthclientsecret", "scramclientkey", "scramserverkey"})
"""Options of a connection URL whose values are secrets, as `plain` writes their names."""


def read_password(name: str, in_url: str, given: str, file: str | Path | None, kind: str = "PASSWORD") -> str:
    """The password of source, sink, …: `given` in NAME_PASSWORD, or in the file of NAME_PASSWORD_FILE, or in the URL.

    `kind`: CLIENT_SECRET for that of a service principal.

    Empty if there is none. Raises ConfigurationError, without the file's name: it may be the password by mistake.
    """
    check_one(f"{name}_{kind}", given, file)
    if given or not file:
        return given or in_url
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"{name}_{kind}_FILE cannot be read: {error.strerror}.") from None
    except ValueError:
        raise ConfigurationError(f"{name}_{kind}_FILE is not UTF-8 text; write it so.") from None


def check_one(name: str, given: object, file: object) -> None:
    """Raise ConfigurationError if the secret of the setting `name` is given in two ways."""
    if given and file:
        raise ConfigurationError(f"{name} and {name}_FILE are both set; keep one.")


def in_url(url: str) -> Iterator[str]:
    """Every part of a URL that may be a password, encoded and decoded; the URL may be malformed."""
    url = url.strip()
    user_and_password = url.partition("://")[2].rpartition("@")[0]
    pairs = [part.partition("=") for part in url.partition("?")[2].split("&")]
    written = [value for option, _, value in pairs if plain(unquote(option)) in OPTIONS]
    for text in (user_and_password.partition(":")[2], *written):
        yield from (text, unquote(text))


def forms(secret: str) -> set[str]:
    """The encodings of a secret: in a URL, SQL, a connection string, JSON and Python."""
    return {
        secret,
        # Environment variables need not be UTF-8.
        *(written(secret, safe, errors="surrogateescape") for written in (quote, quote_plus) for safe in ("", "/")),
        secret.replace("'", "''"),  # SQL
        secret.replace("}", "}}"),  # ODBC
        secret.replace("\\", "\\\\").replace("'", "\\'"),  # libpq
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    }


def plain(option: str) -> str:
    """The normalized name of an option; drivers write `hostNameInCertificate`, `Host Name In Certificate` and so on."""
    return re.sub("[ _-]", "", option).lower()
