"""One cluster and one deployment for all end-to-end tests, in the order of a user's first day.

The cluster is the one of KUBECONFIG, else one of our own that ends with the tests. The sink is the SQL Server of
SINK_URL, else the overlay's own: that of OVERLAY, else `e2e`, which has the stand-in. Where a test fails, what the
cluster can still tell is kept in the folder .e2e.
"""

import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from orders_etl import ORDERS

from dev.sandbox.postgres import Postgres, run_postgres
from dev.sandbox.site import existing_site
from dev.sandbox.stack import INIT_SQL, ROOT
from ops.cluster.kubectl import NAMESPACE
from tests.chaos.orders import make_tables
from tests.cluster import Cluster, run_cluster
from tests.cluster.cache import say
from tests.cluster.certificates import Authority
from tests.e2e import evidence
from tests.e2e.built import built_images, image_name, loki_told
from tests.e2e.deployment import Airflow, Deployment, copy_checkout
from tests.e2e.figures import write_figures
from tests.e2e.one_more_table import EVERY_MINUTE, EVERY_YEAR, dag_file, make_table, pipeline_of
from tests.e2e.outside import OutsideSink
from tests.e2e.pods import PodWatch, watch_pods
from tests.e2e.watching import Watching, watching
from tests.e2e.way_in import heed_helm_chart_config
from tests.support.loki import PROGRAM as LOKI_PROGRAM
from tests.support.tls_front import tls_front

EVIDENCE = ROOT / ".e2e"
OVERLAY = os.environ.get("OVERLAY", "e2e")
DAGS = Path(__file__).parent / "dags"
RULES = "k8s/base/observability/prometheus/rules"
IMAGES = Path(__file__).parent / "images"
POSTGRES_IMAGE, STANDIN_IMAGE = "localhost/e2e-postgres:0.1.0", "localhost/e2e-standin:0.1.0"
LOKI_IMAGES = [] if LOKI_PROGRAM else [image_name("loki")]
"""That of the double, where no program is given."""
SOURCE_NAME = "orders-db.example.com"
"""In the certificate of the source; pods reach it by address."""
_BEGAN = pytest.StashKey[float]()
PASSWORD = secrets.token_urlsafe(24)
"""Of the role `orders` at the source."""


@dataclass(frozen=True)
class TestBed:
    """Where the deployment goes: a cluster, how images get into it, and where its pods find the source."""

    __test__ = False
    environment: dict[str, str] = field(repr=False)
    import_command: list[str]
    source_address: str
    build_options: tuple[str, ...] = ()
    """Options of apply-all.sh."""
    cluster: Cluster | None = field(default=None, repr=False)
    """The cluster where it is one of our own, whose node can be disturbed too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """For chaos_campaign.py, load_campaign.py and `make acceptance`."""
    parser.addoption("--seed", type=int, help="of a campaign of faults; default: one is drawn")
    parser.addoption("--faults", type=int, default=200, help="how many; default: 200")
    parser.addoption("--pipelines", type=int, default=50, help="how many at once; default: 50")
    parser.addoption("--minutes", type=float, default=30, help="for how long; default: 30")
    parser.addoption("--figures", type=Path, help="the file of the record, Markdown")


def pytest_report_header() -> str:
    """Say which Loki the tests have."""
    return loki_told()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the record of a whole run where one is asked for."""
    if file := config.getoption("--figures"):
        stats = terminalreporter.stats
        reports = [(outcome, report) for outcome, found in stats.items() for report in found]
        phases = [(outcome, report) for outcome, report in reports if isinstance(report, pytest.TestReport)]
        seconds = time.monotonic() - config.stash[_BEGAN]
        write_figures(file, sorted(phases, key=lambda each: each[1].start), seconds)


def pytest_configure(config: pytest.Config) -> None:
    """Note when the session began."""
    config.stash[_BEGAN] = time.monotonic()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Collect evidence at once where a test fails: the next one may change everything."""
    report = yield
    if report.failed:
        bed = getattr(item.session, "e2e_ground", None)
        folder = EVIDENCE / item.name
        if bed:
            evidence.collect(folder, bed.environment)
        report.sections.append(("Evidence", f"Events, pods and logs are in {folder}."))
    return report


@pytest.fixture(scope="session")
def bed(request: pytest.FixtureRequest) -> Iterator[TestBed]:
    shutil.rmtree(EVIDENCE, ignore_errors=True)
    EVIDENCE.mkdir()
    with _given_ground() if os.environ.get("KUBECONFIG") else _own_ground() as made:
        request.session.e2e_ground = made  # type: ignore[attr-defined]
        # The tests' own calls of kubectl reach the same cluster.
        before = dict(os.environ)
        os.environ.update(made.environment)
        try:
            yield made
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def _own_ground() -> Iterator[TestBed]:
    with (
        tempfile.TemporaryDirectory(prefix="e2e-") as folder,
        # While the one waits for the network, the other compiles.
        run_cluster(Path(folder) / "cluster", logs=EVIDENCE / "cluster", beside=_build_images) as cluster,
    ):
        import_command = list(map(str, cluster.import_command))
        build_options = ("--builder=buildah", "--no-pull")
        yield TestBed(cluster.environment, import_command, cluster.host_address, build_options, cluster)


@contextmanager
def _given_ground() -> Iterator[TestBed]:
    """A cluster of the user's, on this machine; everything of ours in it is removed again."""
    command = ["kubectl", "get", "nodes", "--output=jsonpath={.items[0].status.addresses[0].address}"]
    address = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = subprocess.run(["kubectl", "get", "namespace", NAMESPACE], capture_output=True, check=False)
    assert found.returncode != 0, f"The cluster of KUBECONFIG already has a namespace {NAMESPACE}; give an empty one."
    import_command = shlex.split(os.environ.get("IMPORT_COMMAND", "k3s ctr images import"))
    _build_images({})
    yield TestBed(dict(os.environ), import_command, address)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Of the company that has the operational Postgres."""
    return Authority.of_server(tmp_path_factory.mktemp("authority"), "source", SOURCE_NAME)


@pytest.fixture(scope="session")
def source(bed: TestBed, authority: Authority) -> Iterator[Postgres]:
    """The operational Postgres, outside the cluster, with a role that may only read. Pods come to it by TLS alone."""
    files = authority.certificate_of("source"), authority.key_of("source")
    with run_postgres() as server, tls_front(server.port, *files, bed.source_address, 5432):
        url = server.create_database("orders", INIT_SQL)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE orders LOGIN PASSWORD '{PASSWORD}'".encode())
            connection.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO orders")
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO orders")
        yield server


@pytest.fixture(scope="session")
def pods(bed: TestBed) -> Iterator[PodWatch]:
    with watch_pods(NAMESPACE, EVIDENCE / "pods.json", bed.environment) as watch:
        yield watch


@pytest.fixture(scope="session")
def deployment(bed: TestBed, source: Postgres, authority: Authority, pods: PodWatch) -> Iterator[Deployment]:
    """A user's checkout, and all that apply-all.sh needs to know here. Nothing is deployed yet."""
    with tempfile.TemporaryDirectory(prefix="e2e-checkout-") as folder:
        checkout, data = Path(folder) / "checkout", Path(folder) / "data"
        copy_checkout(ROOT, checkout)
        if OVERLAY == "e2e":
            import_images(bed, bed.import_command, (POSTGRES_IMAGE, STANDIN_IMAGE, *LOKI_IMAGES))
        options = [
            *bed.build_options, f"--import-command={shlex.join(bed.import_command)}",
            f"--source-address={bed.source_address}", f"--source-name={SOURCE_NAME}",
            f"--source-ca={authority.certificate}", f"--data-folder={data}",
        ]  # fmt: skip
        if bundle := os.environ.get("SSL_CERT_FILE"):
            options.append(f"--ca-file={bundle}")
        environment = {**bed.environment, "SOURCE_PASSWORD": PASSWORD}
        made = Deployment(checkout, environment, options, source.url("orders"), OVERLAY)
        with _sink_of_environment(made, bed.source_address) as made:
            yield made
            made.apply_all("down", "--delete-data", "--yes")


@pytest.fixture(scope="session")
def first_run(deployment: Deployment) -> str:
    """The output of apply-all.sh on an empty cluster."""
    return deployment.apply_all("--wait-for-first-run")


@pytest.fixture(scope="session")
def stock(first_run: str, deployment: Deployment) -> str:
    """One more DAG file in the user's checkout, for one more table, applied. Its schedule is every minute.

    Beside it one for `pallets`, `pallets_etl`, which only runs when it is triggered.
    """
    for name, schedule in (("stock", EVERY_MINUTE), ("pallets", EVERY_YEAR)):
        make_table(deployment.source_url, name)
        (deployment.checkout / "dags" / f"{name}_etl.py").write_text(dag_file(name, schedule))
    deployment.apply_all()
    return "stock_etl"


@pytest.fixture(scope="session")
def observed(first_run: str, deployment: Deployment, bed: TestBed) -> Deployment:
    """The deployment with DAGs that write and fail, and rules that look back two minutes instead of ten.

    Alerts fire as they do for everybody; they resolve sooner. The tables of the DAGs of tests/chaos are there, so that
    nothing is wrong with those before their time.
    """
    make_tables(deployment.source_url)
    shutil.copytree(
        DAGS, deployment.checkout / "dags", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    for file in (deployment.checkout / RULES).glob("*.yml"):
        file.write_text(file.read_text().replace("10m", "2m"))
    deployment.apply_all()
    if bed.cluster:
        heed_helm_chart_config(deployment)
    with deployment.airflow() as airflow:
        for dag in ("ten_thousand_lines", "slow_lines", "fails_unless_mended"):
            airflow.await_dag(dag)
            airflow.pause(dag, False)
    return deployment


@pytest.fixture(scope="module")
def airflow(observed: Deployment) -> Iterator[Airflow]:
    with observed.airflow() as made:
        yield made


@pytest.fixture(scope="module")
def watch(observed: Deployment) -> Iterator[Watching]:
    with watching(observed) as made:
        yield made


@contextmanager
def _sink_of_environment(deployment: Deployment, this_machine: str) -> Iterator[Deployment]:
    """The deployment with the SQL Server of SINK_URL, where that is set; our tables are removed from it at the end."""
    url = os.environ.get("SINK_URL")
    if not url:
        yield deployment
        return
    sites = [
        existing_site(pipeline, deployment.source_url, url)
        for pipeline in (ORDERS, *map(pipeline_of, ("stock", "pallets")))
    ]
    for site in sites:
        site.claim()
    yield deployment.with_sink_outside(OutsideSink.of(url, this_machine))
    for site in sites:
        site.clean()


def _build_images(environment: dict[str, str]) -> None:
    """What a registry would give where the sink is the stand-in: PostgreSQL, the stand-in, Loki and their like."""
    if OVERLAY != "e2e":
        return
    secret = ["--secret", f"id=ca,src={os.environ['SSL_CERT_FILE']}"] if "SSL_CERT_FILE" in os.environ else []
    builds = [
        (POSTGRES_IMAGE, IMAGES / "postgres.Dockerfile", IMAGES),
        # The stand-in for SQL Server is made of it.
        ("localhost/etl:0.1.0", ROOT / "etl_image" / "Dockerfile", ROOT),
        (STANDIN_IMAGE, IMAGES / "standin.Dockerfile", ROOT / "dev"),
        *((name, IMAGES / "loki.Dockerfile", ROOT / "tests" / "support") for name in LOKI_IMAGES),
    ]
    for name, dockerfile, context in builds:
        say(f"Building {name} …")
        build = ["buildah", "build", "--layers", "--network=host", "--pull=false", *secret, f"--file={dockerfile}"]
        _call(os.environ | environment, *build, f"--tag={name}", str(context))
    built_images()


def import_images(bed: TestBed, command: Sequence[str], names: Iterable[str]) -> None:
    """Import images that were built here into a node, by the command for that node."""
    with tempfile.TemporaryDirectory(prefix="e2e-images-") as folder:
        archive = Path(folder) / "image.tar"
        for name in names:
            say(f"Importing {name} …")
            _call(bed.environment, "buildah", "push", name, f"docker-archive:{archive}:{name}")
            _call(bed.environment, *command, str(archive))
            archive.unlink()
    for built in built_images():
        say(f"Importing {built.stem} …")
        _call(bed.environment, *command, str(built))


def _call(environment: Mapping[str, str], *command: str) -> None:
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{' '.join(command)} failed:\n{ran.stdout}{ran.stderr}"
