"""Identity provider (OpenID Connect) of Airflow's sign-in: address, client, and mapping of groups to roles.

    python -m etl_airflow.web.oidc

fetches the provider's discovery document with the API server's settings and prints it as JSON, for the doctor.

Grafana has the same settings: k8s/components/oidc/oidc.env explains each.
"""

import json
import os
from pathlib import Path
from typing import Any

PROVIDER = "SSO"
"""The name on the login page's button, and in the redirect URI that is registered at the provider."""
ROLES = {
    "OIDC_ADMIN_GROUP": "Admin",
    "OIDC_OP_GROUP": "Op",
    "OIDC_USER_GROUP": "User",
    "OIDC_VIEWER_GROUP": "Viewer",
}
"""The setting that names a group, and the role in Airflow that its members have."""
COMPARED = ("OIDC_ISSUER", "OIDC_AUTHORIZATION_ENDPOINT", "OIDC_TOKEN_ENDPOINT", "OIDC_USERINFO_ENDPOINT")
"""The settings that must agree with the discovery document (ops/deploy/manifests/identity.py)."""
SECONDS = 10
_DOCTOR_SECONDS = 5


def remote() -> dict[str, Any]:
    """The provider in the form that Flask-AppBuilder and Authlib take."""
    client = {
        "scope": os.environ["OIDC_SCOPES"],
        # PKCE: an intercepted authorization code is useless.
        "code_challenge_method": "S256",
        "verify": authorities(),
        "default_timeout": SECONDS,
    }
    return {
        "name": PROVIDER,
        "icon": "fa-sign-in",
        "token_key": "access_token",
        "remote_app": {
            "client_id": os.environ["OIDC_CLIENT_ID"],
            "client_secret": os.environ["OIDC_CLIENT_SECRET"],
            "server_metadata_url": discovery_url(),
            "client_kwargs": client,
        },
    }


def discovery_url() -> str:
    """The URL of the discovery document."""
    return f"{os.environ['OIDC_ISSUER'].rstrip('/')}/.well-known/openid-configuration"


def authorities() -> bool | str:
    """The CA file for the provider's certificate; True (the system's) if it is empty or missing."""
    file = Path(os.environ.get("OIDC_CA_FILE", ""))
    return str(file) if file.is_file() and file.stat().st_size else True


def roles_of_groups() -> dict[str, list[str]]:
    """Roles by group. An empty setting gives its role to no group."""
    roles: dict[str, list[str]] = {}
    for setting, role in ROLES.items():
        if group := os.environ.get(setting, ""):
            roles.setdefault(group, []).append(role)
    return roles


def main() -> None:
    """Print the settings to compare with the discovery document, and the document or the error."""
    import requests

    found: dict[str, Any] = {"settings": {name: os.environ.get(name, "") for name in COMPARED}}
    try:
        answer = requests.get(discovery_url(), verify=authorities(), timeout=_DOCTOR_SECONDS)
        answer.raise_for_status()
        found["document"] = answer.json()
    except (OSError, ValueError) as error:  # base classes of the exceptions of requests
        found["error"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
