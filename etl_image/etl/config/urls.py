"""Connection URLs, parsed in one way for the steps, the checks and Airflow's connections.

An ambiguous URL is refused, and no part of it is printed: what looks like a host may be half a password. Needs only
Python.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

from etl.config import passwords, tls
from etl.errors import ConfigurationError, printable

POSTGRES = "postgresql://user:password@host:5432/database"
"""An example of the source's URL, and of the metadata database's."""
SQL_SERVER = "mssql://user:password@host:1433/database"
"""An example of the sink's URL."""
_POSTGRES = ("postgresql", "postgres")
_SQL_SERVER = ("mssql", "sqlserver", "mssql+pymssql", "mssql+pyodbc")
_PORT, _SINK_PORT = 5432, 1433
_URL = re.compile(r"(?P<scheme>[A-Za-z0-9+.-]+)://(?P<authority>[^/?#]*)(?P<path>[^?]*)\??(?P<query>.*)", re.DOTALL)
_KEYWORDS = """
application_name channel_binding client_encoding connect_timeout dbname fallback_application_name gssdelegation
gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle keepalives_interval krbsrvname
load_balance_hosts max_protocol_version min_protocol_version oauth_client_id oauth_client_secret oauth_issuer
oauth_scope options passfile password port replication require_auth requirepeer scram_client_key
scram_server_key service ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode sslcompression
sslcrl sslcrldir sslkey sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert sslsni target_session_attrs
tcp_user_timeout user
"""
KEYWORDS = frozenset(_KEYWORDS.split())
"""The options of libpq 18."""
_SINK_OPTIONS = (
    *("applicationintent", "database", "encrypt", "hostnameincertificate", "multisubnetfailover"),
    "trustservercertificate",
)
_FAILOVER = {"yes": "Yes", "true": "Yes", "1": "Yes", "no": "No", "false": "No", "0": "No"}


@dataclass(frozen=True)
class SqlServer:
    """A sink's server and database, and how to connect; `options` as ODBC has them."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    tls: tls.SinkTls
    options: dict[str, str]


@dataclass(frozen=True)
class _Parts:
    """The parts of a URL, decoded."""

    user: str
    password: str = field(repr=False)
    hosts: tuple[tuple[str, str], ...]
    path: str
    options: tuple[tuple[str, str], ...] = field(repr=False)


def postgres(name: str, url: str) -> dict[str, str]:
    """The URL of the setting `name` as libpq's options, read as libpq does. Raises ConfigurationError."""
    parts = _split(name, url, _POSTGRES, POSTGRES)
    hosts, ports = zip(*parts.hosts, strict=True)
    found = {
        "user": parts.user,
        "password": parts.password,
        "host": ",".join(hosts) if any(hosts) or len(hosts) > 1 else "",
        "port": ",".join(ports) if any(ports) or len(ports) > 1 else "",
        "dbname": parts.path,
    }
    for option, value in parts.options:
        known = ("sslmode", "require") if (option, value) == ("ssl", "true") else (option, value)
        if known[0] not in KEYWORDS:
            raise _unknown(name, option, KEYWORDS)
        found |= [known]
    for port in found["port"].split(","):
        _check_port(name, port, POSTGRES)
    return {option: value for option, value in found.items() if value}


def addresses(options: dict[str, str]) -> list[tuple[str, int]]:
    """Hosts and ports to which libpq connects by TCP; none for a socket or a service."""
    named = options.get("host", "").split(",")
    given, ports = options.get("hostaddr", "").split(","), options.get("port", "").split(",")
    pairs = [
        (_at(given, number) or _at(named, number), int((ports[0] if len(ports) == 1 else _at(ports, number)) or _PORT))
        for number in range(max(len(named), len(given)))
    ]
    return [(host, port) for host, port in pairs if host and not tls.is_socket(host)]


def sql_server(name: str, url: str) -> SqlServer:
    """The URL of the setting `name`. Raises ConfigurationError."""
    parts = _split(name, url, _SQL_SERVER, SQL_SERVER)
    options = {passwords.plain(option): value for option, value in parts.options}
    (host, port), *more = parts.hosts
    if "\\" in host or {"instance", "instancename"} & options.keys():
        raise ConfigurationError(
            f"{name} names an instance, which drivers look up in different ways; write its port instead, as in"
            " mssql://user@host:PORT/database. In that instance, `SELECT local_tcp_port FROM sys.dm_exec_connections"
            " WHERE session_id = @@SPID` over TCP shows the port, as SQL Server Configuration Manager does (TCP/IP,"
            " IPAll); let it be a fixed one (TCP Port, not TCP Dynamic Ports)."
        )
    if more:
        raise _not_a_url(name, SQL_SERVER, "it has a comma in the host; a port is written after a colon")
    if not host:
        raise _not_a_url(name, SQL_SERVER, "it names no host")
    if not parts.user:
        raise _not_a_url(name, SQL_SERVER, "it names no user")
    _check_port(name, port, SQL_SERVER)
    database = parts.path.strip("/") or options.get("database", "") or options.get("databasename", "")
    if not database:
        raise ConfigurationError(f"{name} names no database; write {SQL_SERVER}.")
    options = {option: value for option, value in options.items() if option not in ("database", "databasename")}
    asked = tls.take_sink_tls(host, options)
    failover = tls.take_option(options, "multisubnetfailover", _FAILOVER, "")
    intent = tls.take_option(options, "applicationintent", {"readwrite": "ReadWrite"}, "")
    for option in options:
        raise _unknown(name, option, _SINK_OPTIONS)
    passed = {"MultiSubnetFailover": failover, "ApplicationIntent": intent}
    return SqlServer(
        host,
        int(port or _SINK_PORT),
        database,
        parts.user,
        parts.password,
        asked,
        {option: value for option, value in passed.items() if value},
    )


def check_storage(name: str, url: str) -> None:
    """Raise ConfigurationError if a folder's URL contains keys, which messages about it would show."""
    buckets = re.findall("://([^/]*)", url)
    in_bucket = any(":" in bucket and not bucket.startswith("arn:") for bucket in buckets)
    if in_bucket or ("@" in url and not url.startswith("file:")):
        raise ConfigurationError(
            f"{name} holds more than a bucket and a folder; write s3://bucket/folder, and set AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, or AWS_ENDPOINT_URL, beside it."
        )


def redacted_location(url: str) -> str:
    """Hosts, ports and database of a connection URL, for messages; empty if it is invalid."""
    try:
        if _URL.match(url.strip()) and url.strip().partition(":")[0].lower() in _POSTGRES:
            return printable(_source_location(postgres("", url)))
        sink = sql_server("", url)
    except ConfigurationError:
        return ""
    return printable(f"{bracketed(sink.host)}:{sink.port}/{sink.database}")


def bracketed(host: str) -> str:
    """A host as in front of a port: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def _source_location(options: dict[str, str]) -> str:
    database = f"/{options['dbname']}" if "dbname" in options else ""
    if "host" not in options and "hostaddr" not in options and "service" in options:
        return f"service {options['service']}{database}"
    hosts = (options.get("host") or options.get("hostaddr") or "").split(",")
    ports = options.get("port", "").split(",")
    pairs = (
        (host, (ports[0] if len(ports) == 1 else _at(ports, number)) or _PORT) for number, host in enumerate(hosts)
    )
    return ",".join(f"{bracketed(host) or '(local socket)'}:{port}" for host, port in pairs) + database


def _split(name: str, url: str, schemes: tuple[str, ...], example: str) -> _Parts:
    """The parts of a URL. Raises ConfigurationError if it is ambiguous or invalid."""
    found = _URL.fullmatch(url.strip())
    if not found or found["scheme"].lower() not in schemes:
        raise _not_a_url(name, example, f"it does not begin with {schemes[0]}://")
    user_and_password, _, hosts = found["authority"].rpartition("@")
    rest = found["path"] + found["query"]
    if "@" in rest or "#" in rest or (schemes is _SQL_SERVER and ";" in hosts + rest):
        raise _not_a_url(
            name,
            example,
            "it can be read in two ways, for @, # or ; is in it after the host. In user, password and options write"
            f" @ / : ? # % & ; as %40 %2F %3A %3F %23 %25 %26 %3B, or set {name.removesuffix('_URL')}_PASSWORD instead",
        )
    user, _, password = user_and_password.partition(":")
    pairs = [part.partition("=") for part in found["query"].split("&") if part]
    try:
        return _Parts(
            _decoded(user),
            _decoded(password),
            tuple(_host_and_port(each) for each in hosts.split(",")),
            _decoded(found["path"][1:]),
            tuple((_decoded(option), _decoded(value)) for option, _, value in pairs),
        )
    except ValueError as error:
        raise _not_a_url(name, example, str(error)) from None


def _host_and_port(text: str) -> tuple[str, str]:
    if not text.startswith("["):
        host, _, port = text.partition(":")
        return _decoded(host), _decoded(port)
    host, closed, port = text[1:].partition("]")
    if not closed or not host or (port and not port.startswith(":")):
        raise ValueError("an IPv6 address is written as [::1], a port comes after it as in [::1]:5432")
    return _decoded(host), _decoded(port[1:])


def _decoded(text: str) -> str:
    """The percent-decoded text. Raises ValueError, without the text."""
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        decoded = "\0"
    if "\0" in decoded:
        raise ValueError("what is percent-encoded in it is not UTF-8; write a % itself as %25")
    return decoded


def _check_port(name: str, port: str, example: str) -> None:
    # Not printed: without the host, what looks like a port is the password.
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise _not_a_url(
            name, example, "a port is not a number from 1 to 65535; an IPv6 address is written in brackets, as [::1]"
        )


def _not_a_url(name: str, example: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is not a URL such as {example}: {why}.")


def _unknown(name: str, option: str, known: Iterable[str]) -> ConfigurationError:
    """The error for an unknown option, without the option: in a malformed URL it may be a part of a password."""
    close = difflib.get_close_matches(option.lower(), known, 1)
    meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}."
    return ConfigurationError(f"{name}: an option after the ? is unknown (in a value & is written %26); {meant}")


def _at(texts: list[str], number: int) -> str:
    return texts[number] if number < len(texts) else ""
