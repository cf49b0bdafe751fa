"""The identity provider's discovery document, compared with the settings of the component `oidc`.

Grafana reads no discovery document, so the settings repeat it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

DOCUMENTED = {
    "OIDC_ISSUER": "issuer",
    "OIDC_AUTHORIZATION_ENDPOINT": "authorization_endpoint",
    "OIDC_TOKEN_ENDPOINT": "token_endpoint",
    "OIDC_USERINFO_ENDPOINT": "userinfo_endpoint",
}
"""The settings, and their names in the discovery document."""


def discovery_url(settings: Mapping[str, str]) -> str:
    """The URL of the discovery document."""
    return f"{settings['OIDC_ISSUER'].rstrip('/')}/.well-known/openid-configuration"


def mismatches(settings: Mapping[str, str], document: Any) -> Iterator[str]:
    """Settings that differ from the discovery document, as sentences."""
    if not isinstance(document, dict):
        yield f"{discovery_url(settings)} is not the discovery document of an identity provider: correct OIDC_ISSUER."
        return
    for name, key in DOCUMENTED.items():
        setting, documented = settings.get(name, ""), document.get(key)
        if setting != documented:
            yield (
                f"{name} is {setting or 'empty'}, and the identity provider says {documented or 'nothing'} ({key} in"
                f" {discovery_url(settings)}): set it so in your overlay."
            )
