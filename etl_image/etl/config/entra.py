"""Logins by tokens of Microsoft Entra ID: of a service principal, or of a managed identity of this machine.

The token of a login ends after about an hour; the connection does not. The library keeps a token until shortly before
its end, and asks for another one when a connection is opened after that.
"""

import logging
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from etl.config.reach import UnreachableError, reach
from etl.errors import ConfigurationError, TryAgainError, printable

Auth = Literal["password", "service-principal", "managed-identity"]
"""SINK_AUTH and SOURCE_AUTH."""
SOURCE_SCOPE = "https://ossrdbms-aad.database.windows.net/.default"
"""Of Azure's Postgres, which takes a token as the password. That of SQL Server is named by its driver."""
_ENTRA, _MACHINE = "https://login.microsoftonline.com", "http://169.254.169.254"
# Airflow, or who runs the command, tries again; the library alone would take minutes.
_PATIENCE: dict[str, Any] = {"connection_timeout": 4, "read_timeout": 10, "retry_total": 1}
# Entra ID's own sentence, without the ids and the time behind it.
_SENTENCE = re.compile(r"AADSTS\d+: .*?(?=(?:\\r|\\n|\s)*(?:Trace ID|$))")
_OF_MACHINE = "Token request error: "
# Refusals that another try does not change: there is no such tenant, application or resource; the application is
# disabled or may not; the secret is wrong or has expired; and those of a machine. Others are tried again.
# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
# https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#error-handling
_LASTING = re.compile(
    r"AADSTS(90002|900023|700016|500011|7000112|53003|7000215|7000222):"
    r"|\((invalid_request|invalid_resource|bad_request_102|unknown_source|unauthorized_client|access_denied)\)"
)
_issued: deque[str] = deque(maxlen=16)


class NoTokenNowError(TryAgainError):
    """The endpoint of the tokens does not answer, or gives none at the moment."""

    problem = "endpoint"


class TokenRefusedError(ConfigurationError):
    """The endpoint refuses a token, and will again."""

    problem = "token"


@dataclass(frozen=True)
class Identity:
    """A service principal if it has a secret; else a managed identity, the machine's own without a client id."""

    client_id: str = ""
    tenant: str = ""
    secret: str = field(default="", repr=False)

    def get_token(self, *scopes: str, **_: Any) -> Any:
        """A token, as the driver asks for it. Raises NoTokenNowError or TokenRefusedError."""
        from azure.core.exceptions import AzureError

        try:
            token = _credential(self).get_token(*scopes)
        except (AzureError, ValueError) as error:
            # The library hides Entra ID's own sentence about a tenant behind one of its own.
            raise self._explain([" ".join(str(each).split()) for each in _chain(error)]) from None
        _issued.append(token.token)
        return token

    @property
    def endpoint(self) -> str:
        """The URL that the tokens come from."""
        name, default = (
            ("AZURE_AUTHORITY_HOST", _ENTRA) if self.secret else ("AZURE_POD_IDENTITY_AUTHORITY_HOST", _MACHINE)
        )
        return os.environ.get(name) or default

    def _explain(self, texts: Sequence[str]) -> NoTokenNowError | TokenRefusedError:
        """The errors of the library as a sentence."""
        text = " ".join(texts)
        host = urlsplit(self.endpoint).netloc
        whom = f"the service principal {self.client_id}" if self.secret else f"the identity {self.client_id or 'of it'}"
        if found := _SENTENCE.search(text):
            words = f"Entra ID ({host}) gives {whom} no token: {printable(found[0])}"
        elif _OF_MACHINE in text:
            words = f"this machine ({host}) gives {whom} no token: {printable(text.partition(_OF_MACHINE)[2])}"
        else:
            words = f"no token from {host}: {_why(self.endpoint) or printable(texts[0])}"
        return TokenRefusedError(words) if _LASTING.search(words) else NoTokenNowError(words)


def identity(auth: str, client_id: str, tenant: str, secret: str, name: str = "ENTRA") -> Identity:
    """The identity of a login by a token, by NAME_CLIENT_ID, ENTRA_TENANT and NAME_CLIENT_SECRET.

    Raises ConfigurationError.
    """
    if auth not in get_args(Auth):
        raise ConfigurationError(f"SOURCE_AUTH or SINK_AUTH is none of {', '.join(get_args(Auth))}; correct it.")
    if auth == "managed-identity":
        return Identity(client_id)
    given = {f"{name}_CLIENT_ID": client_id, "ENTRA_TENANT": tenant, f"{name}_CLIENT_SECRET": secret}
    if missing := [setting for setting, value in given.items() if not value]:
        raise ConfigurationError(f"A service principal logs in by {', '.join(given)}; set {', '.join(missing)}.")
    return Identity(client_id, tenant, secret)


def check_source(warning: str) -> None:
    """Raise ConfigurationError for a warning about unverified TLS: the token could go to another server."""
    if warning:
        raise ConfigurationError(
            "SOURCE_AUTH: whoever poses as the source would get a token that opens it; write sslmode=verify-full in"
            " SOURCE_URL."
        )


def cause_of(error: BaseException | None) -> NoTokenNowError | TokenRefusedError | None:
    """The error of `get_token` that a driver has wrapped; None if an error is another one."""
    while error is not None and not isinstance(error, NoTokenNowError | TokenRefusedError):
        error = error.__cause__
    return error


def issued() -> tuple[str, ...]:
    """The latest tokens of this process, for redaction."""
    return tuple(_issued)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised for."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _why(endpoint: str) -> str:
    """Why the port of an endpoint does not answer; empty if it does."""
    parts = urlsplit(endpoint)
    try:
        reach([(parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443))])
    except UnreachableError as error:
        return str(error)
    return ""


@cache
def _credential(identity: Identity) -> Any:
    """The library's object, one for each identity: it keeps the tokens."""
    from azure.identity import ClientSecretCredential, ManagedIdentityCredential

    # They log what is raised here as well.
    for name in ("azure", "msal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not identity.secret:
        return ManagedIdentityCredential(client_id=identity.client_id or None, **_PATIENCE)
    return ClientSecretCredential(
        identity.tenant,
        identity.client_id,
        identity.secret,
        # Its address is the operator's, and need not be confirmed by Microsoft's public one.
        disable_instance_discovery=True,
        **_PATIENCE,
    )
