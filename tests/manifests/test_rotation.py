"""Every Secret of a deployment has a procedure of rotation in docs/operations.md, which `make operate` executes."""

import re
from pathlib import Path

import pytest

from ops.cluster.secret_keys import GENERATED, SOURCE_KEY
from tests.harness.manifests.pods import configured_pods
from tests.harness.manifests.rendering import Rendering, renderings

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "docs/operations.md").read_text().split("### Rotate every secret\n")[1].split("\n### ")[0]
ROWS = dict(re.findall(r"^\| (.+?) \| (.+) \|$", SECTION, re.MULTILINE))
NOT_EXECUTED = {
    "what",  # the heading
    "Grafana's",
    "the key of backups' copies",
    "the staging bucket's",
    "the logs' bucket's",
    "the backup copies' bucket's",
    "the git repository's",
    "the receivers' of alerts",
    "the client's at the identity provider",
}


def secrets_of(rendering: Rendering) -> set[str]:
    """Every Secret that something of the deployment names, also those that may be missing."""
    found = set()
    for pod in configured_pods(rendering):
        for container in pod.containers:
            found |= {one["secretRef"]["name"] for one in container.content.get("envFrom", []) if "secretRef" in one}
            values = [one.get("valueFrom", {}) for one in container.content.get("env", [])]
            found |= {value["secretKeyRef"]["name"] for value in values if "secretKeyRef" in value}
        for volume in pod.volumes:
            sources = [volume, *volume.get("projected", {}).get("sources", [])]
            found |= {one["secret"].get("secretName") or one["secret"]["name"] for one in sources if "secret" in one}
    for ingress in rendering.of_kind("Ingress"):
        found |= {one["secretName"] for one in ingress["spec"].get("tls", [])}
    for store in rendering.of_kind("TLSStore"):
        found.add(store["spec"]["defaultCertificate"]["secretName"])
    return found


@pytest.mark.parametrize("rendering", renderings(), ids=str)
def test_every_secret_of_a_deployment_can_be_exchanged(rendering: Rendering) -> None:
    exchanged = set(re.findall(r"(?:set_secret [\w-]+|delete secret) ([\w-]+)", SECTION))
    found = secrets_of(rendering)
    assert found
    assert found <= exchanged


@pytest.mark.parametrize("key", [*GENERATED, SOURCE_KEY], ids="/".join)
def test_every_key_that_is_made_can_be_exchanged(key: tuple[str, str]) -> None:
    assert re.search(rf"set_secret [\w-]+ {key[0]} {key[1]}`", SECTION)


def test_what_is_said_is_done() -> None:
    executed = (ROOT / "tests" / "e2e" / "day_2.py").read_text()
    done = set(re.findall(r'hands\.rotate\(\s*"([^"]+)"', executed))
    done |= set(re.findall(r'"([^"]+)": "[\w-]+-tls"', executed))
    assert set(ROWS) - NOT_EXECUTED - {"---"} == done
