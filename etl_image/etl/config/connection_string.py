"""ODBC connection strings of the sink."""

import re
from collections.abc import Mapping

from pydantic import SecretStr

from etl.config.entra import Identity
from etl.config.urls import SqlServer
from etl.errors import ConfigurationError

# As it is written here: } in names is doubled.
_DATABASE = re.compile(r"Database=\{((?:[^}]|\}\})*)\}")


class ConnectionString(SecretStr):
    """An ODBC connection string; if an `identity` logs in, by a token, it names no user."""

    def __init__(self, text: str, identity: Identity | None = None) -> None:
        super().__init__(text)
        self.identity = identity

    @property
    def database(self) -> str:
        """The database in it; empty if it names none."""
        found = _DATABASE.search(self.get_secret_value())
        return found[1].replace("}}", "}") if found else ""

    def in_database(self, name: str) -> "ConnectionString":
        """The same for another database."""
        named = f"Database={{{name.replace('}', '}}')}}}"
        return ConnectionString(_DATABASE.sub(lambda _: named, self.get_secret_value(), count=1), self.identity)


def connection_string(words: Mapping[str, str], identity: Identity | None = None) -> ConnectionString:
    """The connection string of these options."""
    text = ";".join(f"{name}={{{value.replace('}', '}}')}}}" for name, value in words.items())
    return ConnectionString(text, identity)


def server_words(server: SqlServer, login: Mapping[str, str]) -> dict[str, str]:
    """The options of a server and a login."""
    words = {
        "Server": f"{server.host},{server.port}",  # IPv6 without brackets, as the driver wants it
        "Database": server.database,
        **login,
        "Encrypt": server.tls.encrypt,
        "TrustServerCertificate": "yes" if server.tls.trusts_any_certificate else "no",
        **server.options,
    }
    return words | ({"HostnameInCertificate": server.tls.name} if server.tls.name else {})


def words_for_token(server: SqlServer) -> dict[str, str]:
    """The options of a server for a login by a token. Raises ConfigurationError if another could pose as it."""
    if not server.tls.is_verified:
        raise ConfigurationError(
            "SINK_AUTH: whoever poses as the sink would get a token that opens it; write encrypt=yes, and take"
            " trustservercertificate=yes out, in SINK_URL."
        )
    return server_words(server, {})
