"""No secret is among the arguments of a process: everybody on a node may read those."""

import re
from pathlib import Path

import pytest

from ops.deploy.images.images import DOCKERFILES
from tests.harness.arguments import commands_of, environment_of, leaks, scratch, started_with
from tests.harness.manifests.kustomizations import K8S
from tests.harness.manifests.pods import SECRET, Container, distinct_pods

ROOT = K8S.parent
CONTAINERS = [container for pod in distinct_pods() for container in pod.containers]
TAKES_A_PASSWORD = re.compile(r"--password[= ]|\bsqlcmd\b[^\n#]*\s-P\b|--pass[= ]|PASSWORD='")
"""Ways in which commands are given one as an argument."""
TEXTS = (
    *("docker-compose.dev.yml", "external-db/docker-compose.yml", ".github/workflows/test.yml"),
    *("README.md", "Makefile"),
    *DOCKERFILES.values(),
    *(
        str(path.relative_to(ROOT))
        for folder in ("docs", "scripts", "ops", "k8s")
        for suffix in ("md", "py", "sh", "yaml")
        for path in (ROOT / folder).rglob(f"*.{suffix}")
    ),
)


def scripts_of(container: Container) -> dict[str, str]:
    """Files mounted from ConfigMaps, by path."""
    volumes = {one["name"]: one["configMap"]["name"] for one in container.pod.volumes if "configMap" in one}
    found = {}
    for mount in container.content.get("volumeMounts", []):
        config_map = container.pod.rendering.find("ConfigMap", volumes.get(mount["name"], ""))
        for name, text in (config_map or {}).get("data", {}).items():
            found[f"{mount['mountPath']}/{name}"] = text
    return found


@pytest.mark.parametrize("container", CONTAINERS, ids=str)
def test_no_secret_is_an_argument_of_what_a_container_starts(container: Container, tmp_path: Path) -> None:
    plain = container.environment()
    environment = environment_of(plain, SECRET)
    names = [name for name, value in plain.items() if value == SECRET]
    for number, command in enumerate(commands_of(container.content)):
        folder = tmp_path / str(number)
        folder.mkdir()
        started = started_with(command, scratch(environment, folder), folder, scripts_of(container))
        assert leaks(started, names) == set(), command


def test_no_text_tells_a_command_its_password_as_an_argument() -> None:
    told = {path: TAKES_A_PASSWORD.findall((ROOT / path).read_text()) for path in TEXTS}
    assert {path: found for path, found in told.items() if found} == {}
