"""The identity provider of the component `oidc`: its settings, its discovery document, and the way to it.

Grafana reads no discovery document, so the settings repeat it; here they are compared.
"""

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ops.cluster.oidc import DOCUMENTED, discovery_url, mismatches
from ops.cluster.secret_keys import OIDC_KEYS
from ops.deploy.manifests.rendering import Rendering

_EXAMPLE = "https://login.example.com"
_CALLED = ("OIDC_ISSUER", "OIDC_TOKEN_ENDPOINT", "OIDC_USERINFO_ENDPOINT")
"""The endpoints that pods call; the remaining one is for browsers."""
_DEFAULT_PORTS = [{"port": 443}]
_SECONDS = 8.0


@dataclass(frozen=True)
class Discovery:
    """The answer of the provider: its document, or the error, or that OIDC_CA cannot be read."""

    document: Any = None
    error: str = ""
    bad_ca: bool = False


def settings_of(rendering: Rendering) -> dict[str, str]:
    """The settings of the component; empty if the overlay does not include it."""
    found = (item.get("data") or {} for item in rendering.of_kind("ConfigMap"))
    return next((dict(data) for data in found if "OIDC_ISSUER" in data), {})


def read_discovery(settings: Mapping[str, str]) -> Discovery | None:
    """Ask the provider; None if none is set."""
    if not settings or settings["OIDC_ISSUER"] == _EXAMPLE:
        return None
    try:
        context = ssl.create_default_context(cadata=settings.get("OIDC_CA") or None)
    except (ssl.SSLError, ValueError):
        return Discovery(bad_ca=True)
    try:
        return Discovery(_fetch(settings, context))
    except (OSError, http.client.HTTPException) as error:
        return Discovery(error=str(error) or type(error).__name__)


def identity_problems(
    settings: Mapping[str, str], discovery: Discovery | None, ui_name: str, *, has_secret: bool
) -> Iterator[str]:
    """Settings that are wrong by themselves, or differ from the provider's document."""
    if not settings:
        return
    yield from _setting_problems(settings, ui_name)
    if not has_secret:
        yield (
            "The secret of the client at the identity provider is not known: set OIDC_CLIENT_SECRET (with sudo:"
            " `sudo --preserve-env=OIDC_CLIENT_SECRET`)."
        )
    if discovery and discovery.bad_ca:
        yield "OIDC_CA holds no certificate in PEM. Correct it; empty, it means the system's authorities."
    elif discovery and not discovery.error:
        yield from mismatches(settings, discovery.document)


def identity_warnings(settings: Mapping[str, str], discovery: Discovery | None) -> Iterator[str]:
    """A provider that does not answer."""
    if discovery and discovery.error:
        yield (
            f"The identity provider does not answer: {discovery_url(settings)}: {discovery.error}. Until the API server"
            " and Grafana reach it nobody can sign in."
        )


def set_ports(rendering: Rendering, settings: Mapping[str, str]) -> None:
    """Allow pods the ports of the provider's URLs. A policy that the overlay has changed is kept."""
    if not settings:
        return
    ports = [{"port": port} for port in sorted({_port(settings[name]) for name in _CALLED})]
    for item in rendering.of_kind("NetworkPolicy"):
        if item["metadata"]["name"] in {name for name, _ in OIDC_KEYS}:
            for rule in item["spec"]["egress"]:
                if rule.get("ports") == _DEFAULT_PORTS:
                    rule["ports"] = ports


def _setting_problems(settings: Mapping[str, str], ui_name: str) -> Iterator[str]:
    if settings["OIDC_ISSUER"] == _EXAMPLE:
        yield "OIDC_ISSUER is still the example's: name your identity provider (docs/operations.md, Sign-in)."
        return
    for name in (*DOCUMENTED, "OIDC_UI_URL"):
        if not settings[name].startswith("https://"):
            yield f"{name} is {settings[name] or 'empty'}, and has to begin with https://."
    try:
        url = urlsplit(settings["OIDC_UI_URL"])
        host = url.hostname
    except ValueError:
        yield f"OIDC_UI_URL is {settings['OIDC_UI_URL']}, which is no URL."
        return
    if url.path or url.query:
        yield f"OIDC_UI_URL is {settings['OIDC_UI_URL']}: end it after the name, without a slash."
    if host and host != ui_name:
        yield (
            f"OIDC_UI_URL leads people to {host}, and --ui-name is {ui_name or 'not given'}: give"
            f" --ui-name {host}, or correct OIDC_UI_URL."
        )


def _fetch(settings: Mapping[str, str], context: ssl.SSLContext) -> Any:
    """The discovery document; None if there is none. No proxy is used, since pods have none."""
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    try:
        with urllib.request.build_opener(*handlers).open(discovery_url(settings), timeout=_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        return None  # unlike a server error, this does not go away
    except (ValueError, http.client.InvalidURL):
        return None


def _port(url: str) -> int:
    try:
        return urlsplit(url).port or 443
    except ValueError:  # no number; the problem is reported where the URL is fetched
        return 443
