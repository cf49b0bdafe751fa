"""Sign-in at an identity provider, by Airflow's real API server with the settings of the component `oidc`.

The provider is a small one of the tests, with TLS, PKCE and signed tokens. Grafana's: tests/manifests/test_oidc.py.
"""

import base64
import json
import shutil
import time
from collections.abc import Iterator
from http.client import HTTPMessage
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import yaml
from joserfc.jwk import RSAKey
from playwright.sync_api import expect, sync_playwright

from dev.sandbox.postgres import Postgres
from dev.sandbox.stack import ROOT
from tests.doubles.identity_provider import CLIENT, CLIENT_SECRET, IdentityProvider, run_identity_provider
from tests.harness.airflow.api_server import PASSWORD, Server, new_client, run_api_server

COMPONENT = ROOT / "k8s" / "components" / "oidc"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
ROBOT = "robot"
"""A script's account, which OIDC_LOCAL_USERS names."""
PEOPLE = {"vera": "etl-viewers", "uwe": "etl-users", "olga": "etl-operators", "ada": "etl-admins"}
ALLOWED = {"vera": (403, 403, 403), "uwe": (200, 403, 403), "olga": (200, 200, 403), "ada": (200, 200, 200)}
"""The status for changing a DAG, reading connections, and listing users, by role."""


def settings(provider: IdentityProvider) -> dict[str, str]:
    """The variables that the component gives the API server, for this provider."""
    lines = (COMPONENT / "oidc.env").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    for change in yaml.safe_load((COMPONENT / "airflow.yaml").read_text()):
        if change["path"].endswith("/env/-") and "value" in change["value"]:
            found[change["value"]["name"]] = change["value"]["value"].replace("/opt/airflow", f"{ROOT}/airflow_image")
    return found | {
        "OIDC_ISSUER": provider.issuer,
        "OIDC_CA_FILE": str(provider.authority),
        "OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "OIDC_LOCAL_USERS": ROBOT,
        # If set on this machine it would override the settings for requests; no pod has it.
        **dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), ""),
    }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    with run_identity_provider(tmp_path_factory.mktemp("identity-provider")) as made:
        yield made


@pytest.fixture(scope="module")
def server(postgres: Postgres, running: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api-server")
    robot = ["--role=User", f"--username={ROBOT}", f"--password={PASSWORD}", "--email=robot@etl-poc.invalid"]
    before = (["dags", "reserialize"], ["users", "create", *robot, "--firstname=Script", "--lastname=Nightly"])
    with run_api_server(postgres, folder, *before, **settings(running)) as made:
        yield made


@pytest.fixture
def provider(running: IdentityProvider) -> IdentityProvider:
    """The provider, with its people as they are at first."""
    running.changes, running.signs_with = {}, None
    for name, group in PEOPLE.items():
        running.add(name, group)
    return running


class Visit:
    """A headless browser whose requests come through Traefik."""

    def __init__(self, server: Server) -> None:
        self.server, self.cookies = server, dict[str, str]()
        self._came = {"X-Forwarded-For": new_client(), "X-Forwarded-Proto": "https", "Host": "etl.example.com"}

    def ask(self, path: str) -> tuple[int, HTTPMessage, str]:
        """Status, headers and text; the browser's cookies go with it, and those that come are not kept."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return self.server.ask("GET", path, **self._came, Cookie=cookies)

    def get(self, url: str) -> tuple[int, str, str]:
        """Status, address of a redirect and text, without following it."""
        status, headers, text = self.ask(urlsplit(url)._replace(scheme="", netloc="").geturl())
        for cookie in headers.get_all("Set-Cookie") or []:
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(cookie).items()}
        return status, headers["Location"] or "", text

    def begin(self) -> dict[str, str]:
        """The request to the provider after the login page's button is pressed."""
        self.get("/auth/login/")
        status, location, _ = self.get("/auth/login/SSO?next=")
        assert status == 302
        return dict(parse_qsl(urlsplit(location).query))

    def end(self, back: str) -> "Visit":
        """Return from the provider, and follow the redirects."""
        for _ in range(5):
            status, location, text = self.get(back)
            if status != 302 or self.is_signed_in:
                self.page = text
                return self
            back = location
        raise AssertionError(f"There is no end of redirects: {back}")

    def sign_in(self, provider: IdentityProvider, name: str) -> "Visit":
        """Sign in as a user known to the provider."""
        return self.end(provider.authorize(self.begin(), name))

    @property
    def is_signed_in(self) -> bool:
        """Whether Airflow's token is there."""
        return bool(self.cookies.get("_token"))

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of the token."""
        part = self.cookies["_token"].split(".")[1]
        content: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return content

    def may(self) -> tuple[int, ...]:
        """The statuses of changing a DAG, reading connections, listing users."""
        asked: tuple[tuple[str, str, Any], ...] = (
            ("PATCH", "/api/v2/dags/orders_etl?update_mask=is_paused", {"is_paused": True}),
            ("GET", "/api/v2/connections", None),
            ("GET", "/auth/fab/v1/users", None),
        )
        token = self.cookies["_token"]
        return tuple(self.server.call(method, path, body, token)[0] for method, path, body in asked)


def test_the_provider_is_asked_with_pkce_a_nonce_and_a_state(server: Server, provider: IdentityProvider) -> None:
    asked = Visit(server).begin()
    assert asked["redirect_uri"] == "https://etl.example.com/auth/oauth-authorized/SSO"
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["code_challenge"]) == 43
    assert min(len(asked["nonce"]), len(asked["state"])) >= 20
    assert Visit(server).begin()["nonce"] != asked["nonce"]


@pytest.mark.parametrize("name", PEOPLE)
def test_what_people_may_is_what_their_group_may(server: Server, provider: IdentityProvider, name: str) -> None:
    assert Visit(server).sign_in(provider, name).may() == ALLOWED[name]


@pytest.mark.skipif(not BROWSER, reason="There is no chromium.")
def test_people_sign_in_in_a_browser_and_who_may_not_is_told_why(server: Server, provider: IdentityProvider) -> None:
    provider.add("nina", "cooks")
    flags = ["--no-sandbox", "--no-proxy-server", "--disable-gpu", "--disable-dev-shm-usage"]
    refused: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        for name in (*PEOPLE, "nina"):
            context = browser.new_context(base_url=f"http://localhost:{server.ui}", ignore_https_errors=True)
            page = context.new_page()
            page.on("console", lambda said: refused.append(said.text) if "Content Security" in said.text else None)
            page.goto("/")
            page.click("#btn-signin-SSO")
            expect(page).to_have_title("Identity provider")
            page.get_by_role("button", name=name).click()
            if name == "nina":
                expect(page.get_by_text("nina is in no group that may use Airflow")).to_be_visible()
                expect(page.locator("#btn-signin-SSO")).to_be_visible()
            else:
                expect(page.get_by_role("link", name="Dags", exact=False).first).to_be_visible(timeout=60_000)
                assert page.request.get("/api/v2/connections").status == ALLOWED[name][1]
            context.close()
        browser.close()
    assert refused == []


def test_static_files_touch_no_session(server: Server) -> None:
    """One that overlaps the click on "sign in" would restore the session without that sign-in's state."""
    visit = Visit(server)
    visit.get("/auth/login/")
    status, headers, _ = visit.ask("/auth/static/pin_32.png")
    assert (status, headers.get_all("Set-Cookie")) == (200, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://login.evil.example.com"},
        {"aud": "another-client"},
        {"aud": "another-client", "azp": CLIENT},
        {"aud": ["another-client", "a-third"], "azp": CLIENT},
        {"exp": int(time.time()) - 600, "iat": int(time.time()) - 900},
        {"nonce": "of-another-sign-in"},
        {"nonce": None},
    ],
    ids=["issuer", "audience", "audience, for us", "audiences, for us", "expired", "nonce", "no nonce"],
)
def test_a_token_that_is_not_for_this_sign_in_is_refused(
    server: Server, provider: IdentityProvider, changes: dict[str, Any]
) -> None:
    provider.changes = changes
    visit = Visit(server).sign_in(provider, "ada")
    assert not visit.is_signed_in
    assert any(words in visit.page for words in ("was denied", "You are not signed in"))


def test_a_token_that_another_key_signed_is_refused(server: Server, provider: IdentityProvider) -> None:
    provider.signs_with = RSAKey.generate_key()
    assert not Visit(server).sign_in(provider, "ada").is_signed_in


def test_an_answer_of_the_provider_is_good_once_and_where_it_was_asked_for(
    server: Server, provider: IdentityProvider
) -> None:
    victim, thief = Visit(server), Visit(server)
    back = provider.authorize(victim.begin(), "ada")
    thief.begin()
    assert not thief.end(back).is_signed_in
    assert victim.end(back).is_signed_in
    victim.cookies.pop("_token")
    victim.cookies.pop("session")
    assert not victim.end(back).is_signed_in
    # A forged link does not sign a user in as another.
    stranger = provider.authorize(thief.begin(), "vera")
    query = dict(parse_qsl(urlsplit(stranger).query))
    bare = f"{stranger.partition('?')[0]}?{urlencode({'code': query['code']})}"
    assert not Visit(server).end(bare).is_signed_in


@pytest.mark.parametrize(
    ("groups", "claims", "words"),
    [
        (["cooks"], {}, "is in no group that may use Airflow"),
        ([], {}, "is in no group that may use Airflow"),
        (["etl-admins"], {"preferred_username": "Admin"}, "the provider may not use it"),
        # PostgreSQL's lower() makes an i of that letter.
        (["etl-viewers"], {"preferred_username": "adm\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}n"}, "may not use it"),
        (["etl-admins"], {"preferred_username": ROBOT}, "the provider may not use it"),
        (["etl-admins"], {"preferred_username": ""}, "sends no user name"),
        (["etl-admins"], {"email": "vera@example.com"}, "is its mail address in use by another"),
    ],
    ids=[
        "another group",
        "no group",
        "the administrator",
        "his name for PostgreSQL",
        "a script",
        "no name",
        "another's mail address",
    ],
)
def test_who_is_not_admitted_is_told_why(
    server: Server, provider: IdentityProvider, groups: list[str], claims: dict[str, str], words: str
) -> None:
    Visit(server).sign_in(provider, "vera")
    provider.add("mallory", *groups, **claims)
    visit = Visit(server).sign_in(provider, "mallory")
    assert not visit.is_signed_in
    assert words in visit.page
    assert server.call("GET", "/auth/fab/v1/users", None, server.token_of("admin"))[0] == 200


def test_a_role_that_is_taken_away_is_gone_at_the_next_sign_in_for_other_sessions_too(
    server: Server, provider: IdentityProvider
) -> None:
    before = Visit(server).sign_in(provider, "olga")
    assert before.may() == ALLOWED["olga"]
    provider.add("olga", "etl-viewers")
    assert Visit(server).sign_in(provider, "olga").may() == ALLOWED["vera"]
    assert before.may() == ALLOWED["vera"]
    provider.add("olga", "cooks")
    assert not Visit(server).sign_in(provider, "olga").is_signed_in
    assert before.may() == (403, 403, 403)


def test_the_provider_is_asked_again_after_a_working_day(server: Server, provider: IdentityProvider) -> None:
    claims = Visit(server).sign_in(provider, "vera").claims
    assert claims["exp"] - claims["iat"] <= 8 * 3600


def test_passwords_are_for_scripts_and_for_who_comes_by_port_forward(
    server: Server, provider: IdentityProvider
) -> None:
    Visit(server).sign_in(provider, "ada")
    status, _, text = server.post(PASSWORD, new_client(), "admin")
    assert (status, "sign in at the identity provider" in text) == (403, True)
    assert server.token(PASSWORD, new_client(), ROBOT) == 201
    assert server.token(PASSWORD, new_client(), "ada") == 403
    assert server.token_of("admin")
    # Who came by the provider has no password, not an empty one either.
    for password in ("", " ", "ada"):
        assert server.call("POST", "/auth/token", {"username": "ada", "password": password}, "")[0] in (400, 401)


def test_there_is_no_form_to_register_or_to_log_in_with_a_password(server: Server) -> None:
    assert "password" not in Visit(server).get("/auth/login/")[2].lower()
    assert server.form(new_client(), "admin").send(PASSWORD)[0] == 403
    assert Visit(server).get("/auth/register/form")[0] == 404


def test_the_audit_trail_names_who_signed_in_who_was_refused_and_who_did_what(
    server: Server, provider: IdentityProvider
) -> None:
    Visit(server).sign_in(provider, "uwe").may()
    provider.add("nobody", "cooks")
    Visit(server).sign_in(provider, "nobody")
    told = {(line["event"], line["user"]) for line in server.trail()}
    assert told >= {("login", "uwe"), ("login_failed", "nobody"), ("patch_dag", "uwe")}
    assert ("login", "nobody") not in told
