"""The double as a context manager, in a separate process: it does not share the GIL of the tests."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

PASSWORD = "only-for-tests"
_ROOT = Path(__file__).resolve().parents[3]
_STOP_SECONDS = 30


class SqlServerDouble:
    """A running double: host, port and URL. It ends with the block, or with this process.

    `database_file`: keeps data and logins across restarts. `database`: if empty, left to CREATE DATABASE. `port` 0: any
    free port. `discard`: bulk rows are discarded. `certificate`: its file and its key's; all is then encrypted.
    `azure`: what Azure SQL Database refuses is refused. `directory`: the applications that log in by tokens,
    as the fields of `engine.directory.Directory`.
    """

    login = "sa"

    def __init__(
        self,
        password: str = PASSWORD,
        database: str = "sink",
        database_file: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        discard: bool = False,
        certificate: tuple[Path, Path] | None = None,
        azure: bool = False,
        directory: Mapping[str, Any] | None = None,
    ) -> None:
        self.password = password
        self.database = database
        self.host = host
        self.port = port
        self._file = database_file
        self._discard = discard
        self._certificate = certificate
        self._azure = azure
        self._directory = dict(directory or {})
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """mssql://LOGIN:PASSWORD@HOST:PORT/DATABASE."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mssql://{self.login}:{quote(self.password, safe='')}@{host}:{self.port}/{self.database}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it and wait until it listens. Raises RuntimeError where it does not."""
        from dev.sandbox.process import die_with_parent  # not in the image, which has this package alone

        command = [sys.executable, "-m", __package__, "--host", self.host, "--port", str(self.port)]
        command += ["--database", self.database, "--login", self.login]
        if self._discard:
            command.append("--discard")
        if self._azure:
            command.append("--azure")
        if self._certificate is not None:
            command += ["--tls-certificate", str(self._certificate[0]), "--tls-key", str(self._certificate[1])]
        if self._file is not None:
            command += ["--database-file", str(self._file)]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env=os.environ | {"STANDIN_PASSWORD": self.password, "STANDIN_DIRECTORY": json.dumps(self._directory)},
            preexec_fn=die_with_parent,
        )
        assert self._process.stdout is not None  # it is a pipe
        ready = self._process.stdout.readline()
        if not ready:
            raise RuntimeError(f"The SQL Server double did not start: exit status {self._process.wait()}.")
        self.port = json.loads(ready)["port"]

    def stop(self) -> None:
        """End it, and wait until its file is closed."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=_STOP_SECONDS)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
