"""A small OpenID Connect provider over TLS: the authorization code flow with PKCE, as real ones do it.

A test decides which users there are, with which claims, and what the next ID tokens say otherwise. Users sign in by
choosing a name on a page; there are no passwords.
"""

import base64
import hashlib
import secrets
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import Flask, Response, jsonify, redirect, request
from joserfc import jwt
from joserfc.jwk import RSAKey
from werkzeug.serving import make_server

from dev.sandbox.process import free_port
from tests.cluster.certificates import Authority
from tests.doubles.http_server import serving

CLIENT, CLIENT_SECRET = "etl", secrets.token_urlsafe(16)
REDIRECT_PATH = "/auth/oauth-authorized/SSO"


@dataclass
class IdentityProvider:
    """The provider; `people` are its users by name, each with the claims of the ID token."""

    issuer: str
    authority: Path
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    """Claims that ID tokens have instead of the right ones."""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(parameters={"kid": "first"}))
    signs_with: RSAKey | None = None
    """Another key than the one that is published."""
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, name: str, *groups: str, **claims: Any) -> None:
        """Add a user, or change one."""
        self.people[name] = {"email": f"{name}@example.com", "given_name": name, "groups": list(groups), **claims}

    def authorize(self, query: dict[str, str], name: str) -> str:
        """Sign a user in; returns the URL that the browser is redirected to."""
        assert query["client_id"] == CLIENT
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        assert urlsplit(query["redirect_uri"]).path == REDIRECT_PATH
        code = secrets.token_urlsafe(16)
        self._codes[code] = {**query, "name": name}
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def exchange(self, form: dict[str, str], login: tuple[str | None, str | None]) -> dict[str, Any] | None:
        """The tokens for a code, once; None if client, redirect URI or verifier differ."""
        asked = self._codes.pop(form["code"], None)
        verifier = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode()
        if login != (CLIENT, CLIENT_SECRET) or not asked or form["redirect_uri"] != asked["redirect_uri"]:
            return None
        if verifier.rstrip("=") != asked["code_challenge"]:
            return None
        now, name = int(time.time()), asked["name"]
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": f"id-of-{name}", "iat": now, "exp": now + 300}
        claims |= {"nonce": asked["nonce"], "preferred_username": name, **self.people[name], **self.changes}
        key = self.signs_with or self.key
        token = jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, key)
        return {"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "expires_in": 300, "id_token": token}

    def document(self) -> dict[str, Any]:
        """The discovery document."""
        ends = {"authorization_endpoint": "authorize", "token_endpoint": "token", "userinfo_endpoint": "userinfo"}
        urls = {name: f"{self.issuer}/{path}" for name, path in {**ends, "jwks_uri": "keys"}.items()}
        return {"issuer": self.issuer, **urls, "id_token_signing_alg_values_supported": ["RS256"]}


@contextmanager
def run_identity_provider(folder: Path, host: str = "localhost") -> Iterator[IdentityProvider]:
    """Serve on a port of this machine until the block ends."""
    tls, port = Authority.of_server(folder, "identity-provider", host), free_port()
    made = IdentityProvider(f"https://{host}:{port}", tls.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate_of("identity-provider"), tls.key_of("identity-provider"))
    server = make_server(host, port, _app(made), threaded=True, ssl_context=context)
    with serving(server):
        yield made


def _app(provider: IdentityProvider) -> Flask:
    app = Flask("identity-provider")

    @app.get("/.well-known/openid-configuration")
    def document() -> Response:
        return jsonify(provider.document())

    @app.get("/keys")
    def keys() -> Response:
        return jsonify({"keys": [provider.key.as_dict(private=False)]})

    @app.get("/authorize")
    def choose() -> str:
        buttons = (f"<button name=name value={name}>{name}</button>" for name in provider.people)
        return f"<title>Identity provider</title><form method=post>{''.join(buttons)}</form>"

    @app.post("/authorize")
    def authorize() -> Any:
        return redirect(provider.authorize(request.args.to_dict(), request.form["name"]), code=303)

    @app.post("/token")
    def token() -> Any:
        login = request.authorization
        tokens = provider.exchange(request.form.to_dict(), (login.username, login.password) if login else (None, None))
        return jsonify(tokens) if tokens else (jsonify({"error": "invalid_grant"}), 400)

    return app
