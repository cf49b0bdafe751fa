"""A real Postgres, the SQL Server of SINK_URL or its double, and a bucket."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import fsspec
import pytest

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from dev.sandbox.postgres import Postgres, run_postgres
from dev.sandbox.stack import INIT_SQL, run_sink


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server of SOURCE_URL (its user may create databases), or one started here."""
    if url := os.environ.get("SOURCE_URL"):
        parts = urlsplit(url)
        yield Postgres(
            parts.port or 5432, parts.hostname or "", unquote(parts.username or ""), unquote(parts.password or "")
        )
        return
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def full_postgres() -> Iterator[Postgres]:
    """A server with libxml and the extensions of PostgreSQL's distribution, which the wheel's lacks.

    From POSTGRES_BIN, or as Debian's package installs it; skips without one.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    binaries = Path(os.environ["POSTGRES_BIN"]) if "POSTGRES_BIN" in os.environ else next(iter(installed[-1:]), None)
    if binaries is None or not (binaries / "initdb").exists():
        pytest.skip("needs a PostgreSQL with xml, citext and hstore: apt-get install postgresql, or set POSTGRES_BIN")
    with run_postgres(binaries=binaries) as server:
        yield server


@pytest.fixture(scope="session")
def sink_url() -> Iterator[str]:
    with run_sink() as (url, _):
        yield url


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> Iterator[str]:
    """A database made by init.sql, to copy."""
    name = f"template_{uuid.uuid4().hex[:8]}"
    postgres.create_database(name, INIT_SQL)
    yield name
    postgres.drop_database(name)


@pytest.fixture
def source_url(postgres: Postgres, template: str) -> Iterator[str]:
    """An orders database for one test."""
    name = f"orders_{uuid.uuid4().hex[:8]}"
    yield postgres.create_database(name, template=template)
    postgres.drop_database(name)


@pytest.fixture
def orders(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    """The orders pipeline between databases for one test."""
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """A bucket on a server of this process."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    # s3fs would go on with the server of an earlier module.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("NO_PROXY", host)
        boto3.client("s3").create_bucket(Bucket="staging")
        yield "s3://staging/etl"
    server.stop()
