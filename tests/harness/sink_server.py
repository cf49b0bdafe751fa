"""A server without the sink, for tests of `etl prepare-sink` and of the logins that it creates."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import mssql_python
import pytest
from etl.config.settings import Settings
from etl.model.pipeline import Pipeline
from etl.sqlserver.prepare import prepare_sink
from pydantic import SecretStr

from dev.sandbox.pipeline_fixture import PipelineFixture, existing_fixture
from dev.sandbox.pipelines import ORDERS, make

PASSWORD = "p@ss;w}o{r/d:€ %41'?%(x)s--1A"
ORDERS_PIPELINE = make(ORDERS)


@dataclass(frozen=True)
class Server:
    """A server without the sink, and the names that the sink is to have there. Addresses are without a database."""

    admin_url: str
    database: str
    login: str
    password: str = PASSWORD

    @property
    def sink_url(self) -> str:
        """SINK_URL of the pipelines, without the password."""
        return self.url(f"{self.login}@")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of `etl prepare-sink`."""
        admin = urlsplit(self.admin_url)
        return {
            "SINK_URL": self.sink_url,
            "SINK_PASSWORD": self.password,
            "SINK_ADMIN_USER": unquote(admin.username or ""),
            "SINK_ADMIN_PASSWORD": unquote(admin.password or ""),
        }

    @property
    def settings(self) -> Settings:
        """The same as settings."""
        return Settings.model_validate({name.lower(): value for name, value in self.environment.items()})

    def url(self, user: str = "", database: str = "") -> str:
        """The URL of a database; its user is the administrator where none is given."""
        parts = urlsplit(self.admin_url)
        user = user or parts.netloc.rpartition("@")[0] + "@"
        netloc = user + parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=netloc, path=f"/{database or self.database}").geturl()

    def prepare(self, *pipelines: Pipeline) -> list[str]:
        """Run the command's function; returns what it did."""
        return prepare_sink(self.settings, pipelines)

    def cli(self, *options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the command itself."""
        command = [sys.executable, "-m", "etl", "prepare-sink", "--wait", "0", *options]
        variables = os.environ | self.environment | environment
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    def checked(self, pipeline: Pipeline) -> list[str]:
        """The sink table's deviations from the pipeline, by `etl check`."""
        command = [sys.executable, "-m", "etl", "check", "sink", "--pipeline", pipeline.model_dump_json()]
        ran = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, check=True)
        (line,) = [json.loads(line) for line in ran.stderr.splitlines() if '"check": "sink"' in line]
        assert line["problem"] == ""
        return list(line.get("advice", []))

    def as_administrator(self, statement: str, *parameters: object, database: str = "") -> list[tuple[Any, ...]]:
        """Run a statement, in the sink unless another database is named."""
        return run(self.url(database=database), statement, *parameters)

    def as_loader(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement with the login of the pipelines."""
        return run(self.url(f"{quote(self.login)}:{quote(self.password, safe='')}@"), statement, *parameters)

    def pipeline(self, source_url: str, staging: Path, pipeline: Pipeline = ORDERS_PIPELINE) -> PipelineFixture:
        """A pipeline that loads with that login."""
        url = self.url(f"{quote(self.login)}:{quote(self.password, safe='')}@")
        return existing_fixture(pipeline, source_url, url, staging)


def run(url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run a statement in the database of a URL."""
    settings = Settings(sink_url=SecretStr(url), sink_password=None, sink_password_file=None)
    mssql_python.pooling(enabled=False)
    with closing(mssql_python.connect(settings.sink().get_secret_value(), autocommit=True)) as connection:
        cursor = connection.cursor()
        cursor.execute(statement, *parameters)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


@contextmanager
def refused(told: str) -> Iterator[None]:
    """The server refuses the block's statement with this message."""
    with pytest.raises(mssql_python.Error) as caught:
        yield
    assert told in str(caught.value)
