"""Images and versions are defined once; necessary duplicates agree."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.deploy.images.images import DOCKERFILES
from tests.cluster.building.binaries import Module
from tests.harness.e2e.images import MODULES
from tests.harness.manifests.kustomizations import IMAGES, K8S, OVERLAYS, reached, read, resources
from tests.harness.manifests.pods import JOBS, SERVERS

ROOT = Path(__file__).resolve().parents[2]
LIST: dict[str, dict[str, str]] = {image["name"]: image for image in read(IMAGES)["images"]}
OURS = sorted(DOCKERFILES)
WORKLOADS = sorted(
    path
    for folder in {path for overlay in OVERLAYS for path in reached(overlay) if path.is_dir()}
    for path in resources(folder)
    if path.is_file() and any(item["kind"] in (*SERVERS, *JOBS) for item in yaml.safe_load_all(path.read_text()))
)


def version_of(project: Path) -> Any:
    return tomllib.loads((ROOT / project / "pyproject.toml").read_text())["project"]["version"]


VERSION = version_of(Path())


def test_the_images_that_airflow_starts_pods_from_are_those_of_the_list() -> None:
    (generator,) = read(IMAGES)["configMapGenerator"]
    etl, airflow = LIST["etl"], LIST["etl-airflow"]
    assert set(generator["literals"]) == {
        f"ETL_IMAGE={etl['newName']}:{etl['newTag']}",
        f"AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY={airflow['newName']}",
        f"AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG={airflow['newTag']}",
    }


@pytest.mark.parametrize("file", WORKLOADS, ids=lambda file: str(file.relative_to(K8S)))
def test_a_manifest_leaves_name_and_version_of_its_image_to_the_list(file: Path) -> None:
    for image in re.findall(r"\bimage: (\S+)", file.read_text()):
        assert image in {*LIST, "etl-airflow"}


def test_every_image_of_the_list_is_used() -> None:
    # The common part of Airflow's servers is a patch.
    files = [*WORKLOADS, K8S / "base" / "airflow" / "server.yaml"]
    assert {image for file in files for image in re.findall(r"\bimage: (\S+)", file.read_text())} == set(LIST)


@pytest.mark.parametrize("project", ["etl_image", "airflow_image"])
def test_the_packages_have_the_version_of_the_project(project: str) -> None:
    assert version_of(Path(project)) == VERSION


@pytest.mark.parametrize("name", OURS)
def test_the_list_has_our_images_at_the_version_of_the_project(name: str) -> None:
    assert LIST[name]["newTag"] == VERSION


@pytest.mark.parametrize("name", OURS)
def test_our_images_are_labelled_with_name_and_version(name: str) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', (ROOT / DOCKERFILES[name]).read_text()))
    assert (labels["title"], labels["version"]) == (name, VERSION)


def test_a_step_outside_of_kubernetes_names_the_same_image() -> None:
    default = re.search(
        r'"ETL_IMAGE", "([^"]+)"', (ROOT / "airflow_image" / "etl_airflow" / "pods" / "spec.py").read_text()
    )
    assert default
    assert default[1] == f"{LIST['etl']['newName']}:{LIST['etl']['newTag']}"


def release_of(module: Module) -> str:
    """The version of a Go module as its image has it."""
    if module.version:
        return module.version.removeprefix("v")
    path = module.packages[0].partition("/cmd/")[0]
    required = re.search(rf"^\s*(?:require )?{path} v(\S+)", (module.folder / "go.mod").read_text(), re.MULTILINE)
    assert required
    # Prometheus' releases 3.x are 0.3xx as a Go module.
    return re.sub(r"^0\.3(\d\d)\.", lambda found: f"3.{int(found[1])}.", required[1])


@pytest.mark.parametrize("name", MODULES)
def test_what_the_tests_build_is_of_the_version_that_is_deployed(name: str) -> None:
    assert LIST[name]["newTag"].removeprefix("v") == release_of(MODULES[name])


def test_ci_runs_the_loki_of_the_deployment() -> None:
    found = re.findall(r"\bgrafana/loki:\S+", (ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert found == [f"{LIST['loki']['newName']}:{LIST['loki']['newTag']}".removeprefix("docker.io/")]


@pytest.mark.parametrize("name", ["postgres", "mssql"])
@pytest.mark.parametrize("file", ["docker-compose.dev.yml", ".github/workflows/test.yml"])
def test_development_and_ci_use_the_databases_of_the_deployment(name: str, file: str) -> None:
    image = f"{LIST[name]['newName']}:{LIST[name]['newTag']}".removeprefix("docker.io/library/")
    found = re.findall(rf"image: (\S*{name.replace('mssql', 'mssql/server')}:\S+)", (ROOT / file).read_text())
    assert set(found) == {image}


def test_the_documentation_has_the_versions_and_dates_of_what_is_pulled() -> None:
    told = (ROOT / "docs" / "supply-chain.md").read_text()
    rows = re.findall(r"^\| (\S+) \| (\S+) \| ([^|]+) \| ([-MRP]) \| ", told, re.MULTILINE)
    pulled = {image["newName"]: image["newTag"] for image in LIST.values() if image["name"] not in OURS}
    for name, tag, released, source in rows:
        (found,) = (one for one in pulled if one.endswith(f"/{name}"))
        assert pulled.pop(found) == tag
        assert re.search(r"\d{4}-\d\d-\d\d", released) if source != "-" else released == "not confirmed"
    assert pulled == {}


def test_workflows_build_the_images_under_the_name_that_is_looked_for() -> None:
    for name in ("audit.yml", "release.yml"):
        built = re.findall(r"--tag (\S+)", (ROOT / ".github" / "workflows" / name).read_text())
        assert set(built) == {f"localhost/{image}:{VERSION}" for image in OURS}
