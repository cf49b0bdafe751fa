"""The T-SQL that `etl prepare-sink` sends to a server that has nothing yet, for a review before it runs.

    SINK_URL=mssql://etl@db:1433/sink .venv/bin/python -m dev.prepare_script [PIPELINE.json …] > prepare-sink.sql

Without files: for the orders. `prepare-sink` itself runs against a recorder here; no server is asked.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import structlog
from etl.config.settings import Settings
from etl.model.pipeline import Pipeline
from etl.sqlserver import prepare
from etl.sqlserver.sink import Sink
from pydantic import SecretStr

URL = "mssql://etl@db:1433/sink"
_HEAD = """\
-- What `etl prepare-sink` sends to a SQL Server that has nothing of this yet, as its administrator, for a review.
-- Replace the passwords. On a server that has a part of it, prepare-sink sends only what is missing, and the grants.
"""
_LOADER, _EXPORTER = "PASSWORD OF THE LOADER", "PASSWORD OF THE EXPORTER"


class _Recorder:
    """A connection and its cursor: records statements that change something; answers questions like an empty server."""

    def __init__(self, database: str, script: list[str]) -> None:
        self._database, self._script = database, script
        self._rows: list[tuple[Any, ...]] = []
        self.description = True

    def cursor(self) -> "_Recorder":
        return self

    def commit(self) -> None:
        """Nothing is open."""

    def execute(self, statement: str, *parameters: object) -> None:
        self._rows = []
        if statement.startswith("SELECT"):
            self._rows = self._answer(statement, parameters)
        else:
            self._script.append(f"USE [{self._database}];\nGO\n{statement};\nGO\n")

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    def nextset(self) -> bool:
        return False

    def _answer(self, statement: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        created = [one for one in self._script if "CREATE TABLE" in one and _table(one) in statement]
        if "EngineEdition" in statement:
            return [(3,)]
        if statement.startswith("SELECT [name] FROM sys.columns"):
            return []
        if "OBJECT_ID" in statement and "sys.indexes" not in statement:
            return [(1 if created else None,)]
        if "sys.indexes" in statement:
            columns = re.findall(r"INDEX \S+ \(([^)]*)\)", "".join(created))
            return [(2, False, name.strip(" []")) for name in ",".join(columns).split(",") if name]
        if "IS_ROLEMEMBER" in statement:
            return [(0,)]
        if "SCHEMA_OWNER" in statement and parameters == ("dbo",):
            return [("dbo",)]
        if statement.startswith("SELECT sid FROM sys.sql_logins"):
            return [(b"",)]
        return []


def _table(statement: str) -> str:
    return statement.partition("CREATE TABLE ")[2].partition(" (")[0]


def script(url: str, pipelines: Sequence[Pipeline]) -> str:
    """The statements for the pipelines, as a file for sqlcmd or Management Studio."""
    recorded: list[str] = []

    @contextmanager
    def connect(*_: object, database: str = "master") -> Iterator[Sink]:
        yield Sink(_Recorder(database, recorded))  # type: ignore[arg-type]

    settings = Settings(
        sink_url=SecretStr(url),
        sink_password=SecretStr(_LOADER),
        sink_admin_password=SecretStr("not used"),
        sink_exporter_password=SecretStr(_EXPORTER),
    )
    with patch.object(prepare, "connect_to_prepare", connect):
        prepare.prepare_sink(settings, pipelines)
    return _HEAD + _without_repeated_use("".join(recorded))


def _without_repeated_use(text: str) -> str:
    parts, current = [], ""
    for part in re.split(r"(?m)^(?=USE \[)", text):
        use, _, rest = part.partition("GO\n")
        parts.append(rest if use == current else f"{use}GO\n{rest}")
        current = use
    return "".join(parts)


def main() -> None:
    """Print the script for the pipelines in the files named, or for the orders."""
    from orders_etl import ORDERS

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    named = [Pipeline.model_validate_json(Path(name).read_text()) for name in sys.argv[1:]]
    sys.stdout.write(script(os.environ.get("SINK_URL", URL), named or [ORDERS]))


if __name__ == "__main__":
    main()
