"""The other ways to run it, all at once, over the data of the first.

The manifests for several nodes with PgBouncer, staging in S3, DAGs from git, and a SQL Server outside the cluster.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest
from orders_etl import ORDERS

from ops.cluster.kubectl import OBSERVABILITY
from tests.cluster.certificates import Authority
from tests.harness.direct import DIRECT
from tests.harness.e2e.deployment import Deployment, wait_for
from tests.harness.e2e.one_more_table import ACTIVE, EVERY_YEAR, dag_file, make_table
from tests.harness.e2e.outside import (
    KEYS,
    TEST_IMAGES,
    GitRepository,
    OutsideSink,
    names_in_bucket,
    serve_git,
    serve_sink,
    sink_authority,
)
from tests.harness.e2e.testbed import OVERLAY, TestBed

pytestmark = pytest.mark.acceptance
BUCKET = "etl-staging"


@pytest.fixture(scope="module")
def repository(
    bed: TestBed, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GitRepository]:
    with serve_git(bed.source_address, deployment.checkout / "dags", tmp_path_factory.mktemp("git")) as made:
        yield made


@pytest.fixture(scope="module")
def authority_of_sink(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return sink_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def sink(bed: TestBed, authority_of_sink: Authority) -> Iterator[OutsideSink]:
    """A separate SQL Server, also where SINK_URL names another: it must be empty."""
    with serve_sink(bed.source_address, authority_of_sink) as served:
        yield served


@pytest.fixture(scope="module")
def other(
    first_run: str,
    deployment: Deployment,
    bucket: str,
    repository: GitRepository,
    sink: OutsideSink,
    authority_of_sink: Authority,
) -> Iterator[Deployment]:
    settings = deployment.checkout / "k8s" / "components" / "git-dags" / "git-dags.env"
    settings.write_text(settings.read_text().replace("https://git.example.com/data/dags.git", repository.url))
    made = deployment.lay_over(
        "multi-node",
        components=["git-dags", *(["e2e-images"] if OVERLAY == "e2e" else [])],
        images=TEST_IMAGES if OVERLAY == "e2e" else {},
        connections={"AWS_ENDPOINT_URL": bucket},
        outside={
            **dict.fromkeys(("staging-bucket", "loki-bucket"), urlsplit(bucket).port or 80),
            "git-dags": urlsplit(repository.url).port or 9418,
        },
    )
    made.bring_secret("etl-connections", KEYS)
    chunks = {"LOKI_S3_ENDPOINT": bucket, "LOKI_BUCKET": BUCKET}
    made.bring_secret("loki-chunks", {**KEYS, **chunks}, namespace=OBSERVABILITY)
    made = made.with_sink_outside(sink)
    with deployment.airflow() as airflow:  # as docs/operations.md says of another sink: a run cannot change it
        airflow.rest("orders_etl")
    made.apply_all("--wait-for-first-run", f"--sink-ca={authority_of_sink.certificate}")
    yield made
    made.apply_all("down")  # while there is a bucket: Loki writes to it before it ends


def test_a_sink_outside_gets_all_over_staging_in_s3(other: Deployment, bucket: str) -> None:
    with other.site(ORDERS) as site:
        assert site.sink_rows() == site.source_rows("status = 'confirmed'")
    names = {name.rpartition("/")[2] for name in names_in_bucket(bucket, BUCKET)}
    assert {"extract.json", "filter.json", "rows.parquet"} <= names


def test_servers_are_doubled_and_reach_their_database_over_pgbouncer(other: Deployment) -> None:
    ready = {item["metadata"]["name"]: item["status"]["readyReplicas"] for item in other.objects("deployments")}
    assert {ready[name] for name in ("airflow-scheduler", "pgbouncer")} == {2}
    assert ready["airflow-api-server"] >= 2  # how many more decides the autoscaler
    assert "airflow/airflow@" in other.kubectl("logs", "--selector=app.kubernetes.io/name=pgbouncer", "--tail=-1")


def test_what_only_the_first_way_had_is_gone(other: Deployment) -> None:
    assert [item["metadata"]["name"] for item in other.objects("statefulsets")] == ["metadata-postgres"]
    assert "mssql-svc" not in {item["metadata"]["name"] for item in other.objects("services")}


def test_a_commit_becomes_a_dag(other: Deployment, repository: GitRepository) -> None:
    make_table(other.source_url, "parcels")
    (repository.folder / "dags" / "parcels_etl.py").write_text(dag_file("parcels", EVERY_YEAR))
    repository.commit("One more table")
    with other.airflow() as airflow:
        airflow.await_dag("parcels_etl")
        assert airflow.api.get("/dags/parcels_etl")["bundle_name"] == "git-dags"
        run = airflow.trigger("parcels_etl")
        airflow.pause("parcels_etl", False)
        airflow.await_run("parcels_etl", run)
        airflow.pause("parcels_etl", True)
        # By way of Loki, of which a real one has its chunks in the bucket here: the worker is gone.
        assert any("plan" in str(line["event"]) for line in airflow.log("parcels_etl", run, "plan"))
    with other.site(ORDERS) as site:
        assert site.query("SELECT COUNT_BIG(*) FROM [dbo].[parcels]") == [(ACTIVE,)]


def test_the_autoscaler_starts_more_api_servers_while_they_have_much_to_do(other: Deployment) -> None:
    def servers() -> int:
        (found,) = other.objects("deployments", "--field-selector=metadata.name=airflow-api-server")
        return int(found["spec"]["replicas"])

    def knows() -> bool:
        """Whether it knows their usage; not in their first minute."""
        (scaler,) = other.objects("horizontalpodautoscalers")
        conditions = {each["type"]: each["status"] for each in scaler["status"].get("conditions", [])}
        return conditions.get("ScalingActive") == "True"

    wait_for("the autoscaler to know what the servers use", knows, seconds=300)
    before = servers()
    # Its longest answer: with short ones the port-forward is the bottleneck, and the server hardly works.
    with other.forwarded("airflow-api-server", 8080) as port, busy(f"http://127.0.0.1:{port}/openapi.json"):
        wait_for(f"one more than {before} servers", lambda: servers() > before, seconds=300)


@contextmanager
def busy(url: str, threads: int = 4) -> Iterator[None]:
    """Keep a server busy until the block ends."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            with suppress(httpx.TransportError):
                DIRECT.get(url, timeout=30)

    running = [threading.Thread(target=ask, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in running:
            thread.join()
