"""Entry point of the double: prints one line of JSON when it is ready, logs to stderr."""

import argparse
import json
import logging
import os
import signal
import sys
from pathlib import Path

from dev.sandbox.sqlserver.engine.database import AZURE, EXPRESS, Engine
from dev.sandbox.sqlserver.engine.directory import Directory
from dev.sandbox.sqlserver.engine.principals import Administrator
from dev.sandbox.sqlserver.server.server import Server
from dev.sandbox.sqlserver.wire.tls import server_context

_DIRECTORY = "STANDIN_DIRECTORY"
"""The variable with the applications of Entra ID and the key of their tokens, as JSON (`Directory`)."""
NOTICE = "this is a test double, not SQL Server"


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # for all threads: this one waits for them
    options = _options()
    level = logging.DEBUG if options.log_statements else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s sqlserver-double %(message)s")
    password = os.environ.get(options.password_env)
    if not password:
        sys.exit(f"Set {options.password_env} to the password that {options.login} has to give.")
    try:
        edition = AZURE if options.azure else EXPRESS
        engine = Engine(options.database, options.database_file, edition)
    except ValueError as error:
        sys.exit(f"--database-file {options.database_file}: {error}.")
    tls = server_context(options.tls_certificate, options.tls_key) if options.tls_certificate else None
    administrator = Administrator(options.login, password, Directory(**json.loads(os.environ.get(_DIRECTORY, "{}"))))
    server = Server(options.host, options.port, engine, administrator, options.discard, tls)
    host, port = server.address
    print(json.dumps({"stand_in": NOTICE, "host": host, "port": port}), flush=True)
    signal.sigwait(signals)
    server.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sqlserver", description=f"Answers TDS over DuckDB: {NOTICE}.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="default: any free port")
    parser.add_argument("--database", default="sink", help="created at the start; '': by CREATE DATABASE")
    parser.add_argument("--database-file", type=Path, help="file for data and logins; default: in memory")
    parser.add_argument("--login", default="sa", help="the administrator")
    parser.add_argument("--password-env", default="STANDIN_PASSWORD", help="the variable that holds the password")
    parser.add_argument("--discard", action="store_true", help="discard the rows of bulk loads unread")
    parser.add_argument("--azure", action="store_true", help="refuse what Azure SQL Database refuses")
    parser.add_argument("--tls-certificate", type=Path, help="PEM; all connections are then encrypted")
    parser.add_argument("--tls-key", type=Path, help="key of the certificate; PEM")
    parser.add_argument("--log-statements", action="store_true", help="log every batch, and how sessions end")
    return parser.parse_args()


if __name__ == "__main__":
    main()
