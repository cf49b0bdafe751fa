"""Fixtures of more than one module: databases, a bucket, a Loki, and doubles of a cluster and of a machine."""

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
from ops.doctor.snapshot import Snapshot
from tests.doubles.bare_machine import BareMachine
from tests.doubles.fake_cluster import FakeCluster, prepare
from tests.harness.logs.loki import LokiServer, run_loki


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
    binaries = full_postgres_binaries()
    if binaries is None:
        pytest.skip("needs a PostgreSQL with xml, citext and hstore: apt-get install postgresql, or set POSTGRES_BIN")
    with run_postgres(binaries=binaries) as server:
        yield server


def full_postgres_binaries() -> Path | None:
    """The folder of that server's programs; None if there is none."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    binaries = Path(os.environ["POSTGRES_BIN"]) if "POSTGRES_BIN" in os.environ else next(iter(installed[-1:]), None)
    return binaries if binaries and (binaries / "initdb").exists() else None


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
def empty(postgres: Postgres) -> Iterator[str]:
    """An empty database for one test."""
    name = f"empty_{uuid.uuid4().hex[:8]}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def orders(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    """The orders pipeline between databases for one test."""
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path) as made:
        yield made


@pytest.fixture
def cluster(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> FakeCluster:
    """The stubs of a cluster. A test asks for kubectl as a process by its parameter."""
    return prepare(tmp_path, monkeypatch, capfd, by_process=getattr(request, "param", False))


@pytest.fixture
def seen() -> Snapshot:
    """The snapshot of a deployment in which all is well."""
    from tests.harness.doctor.healthy_deployment import well  # it imports Airflow

    return well()


@pytest.fixture
def machine(tmp_path: Path) -> BareMachine:
    """A machine without K3s."""
    return BareMachine(tmp_path)


@pytest.fixture(scope="module")
def loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LokiServer]:
    """A Loki, or a double of its API."""
    with run_loki(tmp_path_factory.mktemp("loki")) as server:
        yield server


@pytest.fixture
def app() -> str:
    """A label of one test's own: the Loki may have other lines."""
    return f"app-{uuid.uuid4().hex}"


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


@pytest.fixture(params=["file", "s3"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a folder, and of a folder in a bucket, that is not there yet."""
    if request.param == "file":
        return f"file://{tmp_path}/elsewhere/etl"
    return f"{request.getfixturevalue('s3_url')}/{tmp_path.name}"
