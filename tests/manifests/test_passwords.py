"""There are no default passwords: none is in a manifest, a setting or an image."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from ops.deploy.images.images import DOCKERFILES
from tests.harness.manifests.kustomizations import K8S
from tests.harness.manifests.pods import Pod, pods
from tests.harness.manifests.rendering import Rendering, renderings

ROOT = K8S.parent
SECRET_NAMES = re.compile(r"PASSW(OR)?D|SECRET|TOKEN|_KEY\b|FERNET|CREDENTIAL", re.IGNORECASE)
SAID = re.compile(r"""(?:password|passwd|secret|token)["']?\s*[=:]\s*["']?([^\s"'{}$,;]+)""", re.IGNORECASE)
"""As in configuration files and commands."""
NO_SECRET = {"AIRFLOW__SECRETS__BACKEND", "OIDC_TOKEN_ENDPOINT", "GF_AUTH_GENERIC_OAUTH_TOKEN_URL"}
"""The class that makes Airflow's connections, and a public address of the identity provider."""


each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)


def literals(pod: Pod) -> Iterator[tuple[str, str]]:
    """Variables whose values stand in the manifests, those of ConfigMaps among them."""
    for container in pod.containers:
        for name, value in container.environment().items():
            if value != "(secret)":
                yield name, value


@pytest.mark.parametrize("pod", pods(), ids=str)
def test_no_variable_holds_a_password(pod: Pod) -> None:
    for name, value in literals(pod):
        password = urlsplit(value).password if "://" in value else None
        assert not password or re.fullmatch(r"\$\(\w+\)", password), name
        assert not SECRET_NAMES.search(name) or name in NO_SECRET or value.startswith("/"), name


def texts(item: Any) -> Iterator[str]:
    """Every text in an object."""
    if isinstance(item, dict):
        for value in item.values():
            yield from texts(value)
    elif isinstance(item, list):
        for value in item:
            yield from texts(value)
    elif isinstance(item, str):
        yield item


@each_rendering
def test_no_text_in_a_manifest_says_a_password(rendering: Rendering) -> None:
    for item in rendering.objects:
        # A variable of psql is none: PASSWORD :'name'.
        said = {found for text in texts(item) for found in SAID.findall(re.sub(r":'\w+'", "", text))}
        in_urls = {found for text in texts(item) for found in re.findall(r"://[^/\s:@]+:([^/\s@]+)@", text)}
        references = {one for one in in_urls if re.fullmatch(r"\$[({]\w+[)}]|%\(\w+\)s", one)}
        assert said | (in_urls - references) == set(), item["metadata"]["name"]


@pytest.mark.parametrize("name", sorted(DOCKERFILES))
def test_no_image_brings_a_password(name: str) -> None:
    for line in (ROOT / DOCKERFILES[name]).read_text().splitlines():
        for variable, value in re.findall(r"\b([A-Z][A-Z0-9_]+)=(\S+)", line):
            # The certificate of a proxy is a build secret, which stays in no layer.
            assert not SECRET_NAMES.search(variable), (variable, value)
