"""The T-SQL that `etl prepare-sink` sends to a server that has nothing yet, for a review before it runs.

    SINK_URL=mssql://etl@db:1433/sink .venv/bin/python -m dev.prepare_script [PIPELINE.json …] > prepare-sink.sql

Without files: for the orders. `prepare-sink` runs against the double of SQL Server here, and no other server is asked.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import structlog
from etl.config import urls
from etl.config.settings import Settings
from etl.model.pipeline import Pipeline
from etl.sqlserver import prepare
from etl.sqlserver.connection import connect_to_prepare
from etl.sqlserver.sink import Sink
from pydantic import SecretStr

from dev.sandbox.sqlserver import SqlServerDouble

URL = "mssql://etl@db:1433/sink"
_HEAD = """\
-- What `etl prepare-sink` sends to a SQL Server that has nothing of this yet, as its administrator, for a review.
-- Replace the passwords. On a server that has a part of it, prepare-sink sends only what is missing, and the grants.
"""
_LOADER, _EXPORTER = "Password of the loader", "Password of the exporter"


def script(url: str, pipelines: Sequence[Pipeline]) -> str:
    """The statements for the pipelines, as a file for sqlcmd or Management Studio."""
    recorded: list[str] = []
    named = urls.sql_server("SINK_URL", url)

    @contextmanager
    def connect(*arguments: Any, database: str = "", **options: Any) -> Iterator[Sink]:
        with connect_to_prepare(*arguments, database=database, **options) as sink:
            run = sink.rows

            def record(statement: str, *parameters: object) -> list[tuple[Any, ...]]:
                if not statement.startswith("SELECT"):
                    recorded.append(f"USE [{database or 'master'}];\nGO\n{statement};\nGO\n")
                return run(statement, *parameters)

            with patch.object(sink, "rows", record):
                yield sink

    with SqlServerDouble(database="") as server:
        settings = Settings(
            sink_url=SecretStr(f"mssql://{quote(named.user)}@{server.host}:{server.port}/{quote(named.database)}"),
            sink_password=SecretStr(_LOADER),
            sink_admin_user=server.login,
            sink_admin_password=SecretStr(server.password),
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
    pipelines = [Pipeline.model_validate_json(Path(name).read_text()) for name in sys.argv[1:]]
    if not pipelines:
        sys.path.append(str(Path(__file__).resolve().parents[1] / "dags"))
        from orders_etl import ORDERS

        pipelines = [ORDERS]
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # after Airflow, which logs to stdout
    sys.stdout.write(script(os.environ.get("SINK_URL", URL), pipelines))


if __name__ == "__main__":
    main()
