"""A cluster to deploy to, with the images that a registry would give."""

import os
import secrets
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dev.sandbox.stack import ROOT
from ops.cluster.kubectl import NAMESPACE
from tests.cluster import Cluster, run_cluster
from tests.cluster.building.cache import say
from tests.harness.e2e.images import built_images, image_name
from tests.harness.logs.loki import PROGRAM as LOKI_PROGRAM

EVIDENCE = ROOT / ".e2e"
OVERLAY = os.environ.get("OVERLAY", "e2e")
DAGS = ROOT / "tests" / "harness" / "e2e" / "dags"
IMAGES = ROOT / "tests" / "harness" / "e2e" / "dockerfiles"
POSTGRES_IMAGE, STANDIN_IMAGE = "localhost/e2e-postgres:0.1.0", "localhost/e2e-standin:0.1.0"
LOKI_IMAGES = [] if LOKI_PROGRAM else [image_name("loki")]
"""Of the double, unless a program is given."""
SOURCE_NAME = "orders-db.example.com"
"""In the certificate of the source; pods reach it by address."""
PASSWORD = secrets.token_urlsafe(24)
"""Of the role `orders` at the source."""


@dataclass(frozen=True)
class TestBed:
    """The place to deploy to: a cluster, its way to import images, and the source's address for pods."""

    __test__ = False
    environment: dict[str, str] = field(repr=False)
    import_command: list[str]
    source_address: str
    build_options: tuple[str, ...] = ()
    """Options of apply-all.sh."""
    cluster: Cluster | None = field(default=None, repr=False)
    """Our own cluster, whose node faults may affect; None for a given one."""


@contextmanager
def own_bed() -> Iterator[TestBed]:
    with (
        tempfile.TemporaryDirectory(prefix="e2e-") as folder,
        # While the one waits for the network, the other compiles.
        run_cluster(Path(folder) / "cluster", logs=EVIDENCE / "cluster", beside=build_images) as cluster,
    ):
        import_command = list(map(str, cluster.import_command))
        build_options = ("--builder=buildah", "--no-pull")
        yield TestBed(cluster.environment, import_command, cluster.host_address, build_options, cluster)


@contextmanager
def given_bed() -> Iterator[TestBed]:
    """A cluster of the user's, on this machine; everything of ours in it is removed again."""
    command = ["kubectl", "get", "nodes", "--output=jsonpath={.items[0].status.addresses[0].address}"]
    address = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = subprocess.run(["kubectl", "get", "namespace", NAMESPACE], capture_output=True, check=False)
    assert found.returncode != 0, f"The cluster of KUBECONFIG already has a namespace {NAMESPACE}; give an empty one."
    import_command = shlex.split(os.environ.get("IMPORT_COMMAND", "k3s ctr images import"))
    build_images({})
    yield TestBed(dict(os.environ), import_command, address)


def build_images(environment: dict[str, str]) -> None:
    """Build the images that a registry would serve otherwise: PostgreSQL, the SQL Server double, Loki and others."""
    if OVERLAY != "e2e":
        return
    secret = ["--secret", f"id=ca,src={os.environ['SSL_CERT_FILE']}"] if "SSL_CERT_FILE" in os.environ else []
    builds = [
        (POSTGRES_IMAGE, IMAGES / "postgres.Dockerfile", IMAGES),
        # The SQL Server double's image is based on it.
        ("localhost/etl:0.1.0", ROOT / "etl_image" / "Dockerfile", ROOT),
        (STANDIN_IMAGE, IMAGES / "standin.Dockerfile", ROOT / "dev"),
        *((name, IMAGES / "loki.Dockerfile", ROOT / "tests" / "doubles") for name in LOKI_IMAGES),
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
