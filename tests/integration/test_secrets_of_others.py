"""Foreign Secrets stay as they are: created by hand, by SOPS, or by another tool."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ops.cluster.console import Console
from ops.cluster.kubectl import Kubectl
from ops.cluster.secret_keys import GENERATED, namespace_of
from ops.deploy.secrets.secrets import ensure_secrets
from tests.harness.kubernetes_api import ApiServer, run_api_server
from tests.harness.manifests.rendering import kubectl

ROOT = Path(__file__).resolve().parents[2]
LACKING = ("airflow-keys", "AIRFLOW__API__SECRET_KEY")
"""A key that the others have left out, in a Secret that they have."""
WITH_SOPS = pytest.param(
    "sops",
    marks=pytest.mark.skipif(
        not (shutil.which("sops") and shutil.which("age-keygen")), reason="sops and age-keygen are not installed."
    ),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with run_api_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def cluster(server: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kubectl]:
    """The namespaces without Secrets, as ops/deploy reaches them."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").symlink_to(kubectl())
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    found = Kubectl()
    namespaces = {namespace_of(name) for name, _ in GENERATED}
    for name in namespaces:
        server.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}])
    yield found
    for name in namespaces:
        found.run("--namespace", name, "delete", "secrets", "--all")


def theirs() -> list[dict[str, object]]:
    """Every Secret, with one key less, and one of which nothing here knows."""
    values: dict[str, dict[str, str]] = {"mine": {"KEY": "of mine"}}
    for name, key in GENERATED:
        if (name, key) != LACKING:
            values.setdefault(name, {})[key] = f"theirs-{key}"
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace_of(name), "labels": {"owner": "somebody"}},
            "stringData": keys,
        }
        for name, keys in values.items()
    ]


def by_hand(file: Path) -> None:
    subprocess.run(["kubectl", "apply", "--server-side", f"--filename={file}"], check=True)


def by_sops(file: Path) -> None:
    """With the commands of docs/operations.md."""
    section = (ROOT / "docs" / "operations.md").read_text().split("### Secrets of your own")[1]
    (commands,) = re.findall(r"^  (sops encrypt .*?)^  ```", section, re.MULTILINE | re.DOTALL)
    key = file.with_name("key.txt")
    subprocess.run(["age-keygen", f"--output={key}"], check=True, capture_output=True)
    public = re.findall(r"public key: (\S+)", key.read_text())[0]
    script = commands.replace("AGE-PUBLIC-KEY", public)
    subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{script}"], check=True, cwd=file.parent,
        env=os.environ | {"SOPS_AGE_KEY_FILE": str(key)},
    )  # fmt: skip
    encrypted = file.read_text()
    assert "theirs-" not in encrypted
    assert "airflow-keys" in encrypted, "Names can be read and compared in git."


def state(cluster: Kubectl) -> dict[tuple[str, str], tuple[object, object]]:
    """Data and labels of each Secret."""
    items = [item for name in ("etl-poc", "observability") for item in cluster.items("secrets", "--namespace", name)]
    return {
        (item["metadata"]["namespace"], item["metadata"]["name"]): (item["data"], item["metadata"]["labels"])
        for item in items
    }


@pytest.mark.parametrize("how", ["by hand", WITH_SOPS])
def test_what_is_there_stays_and_only_what_is_missing_is_made(cluster: Kubectl, tmp_path: Path, how: str) -> None:
    file = tmp_path / "secrets.yaml"
    file.write_text(yaml.safe_dump_all(theirs()))
    (by_sops if how == "sops" else by_hand)(file)
    before = state(cluster)
    assert len(before) > 6
    for _ in range(2):
        ensure_secrets(Console(), cluster, {}, None)
    after = state(cluster)
    name, key = LACKING
    made = after[namespace_of(name), name][0]
    assert isinstance(made, dict)
    assert made.pop(key)
    assert after == before
