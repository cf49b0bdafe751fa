"""Airflow's pages in a browser that allows no script but theirs: they work, and an injected one does not run."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from dev.sandbox.postgres import Postgres
from tests.harness.airflow.api_server import PASSWORD, Server, run_api_server

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="There is no chromium.")


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_api_server(postgres, tmp_path_factory.mktemp("api-server"), ["dags", "reserialize"]) as made:
        yield made


@pytest.fixture(scope="module")
def refused() -> list[str]:
    """The browser's messages on blocked resources."""
    return []


@pytest.fixture(scope="module")
def page(server: Server, refused: list[str]) -> Iterator[Page]:
    """A window in which the administrator has signed in by the form."""
    flags = ["--no-sandbox", "--no-proxy-server", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=flags)
        page = browser.new_context(base_url=f"http://localhost:{server.ui}").new_page()
        page.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
        page.goto("/auth/login/")
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", PASSWORD)
        page.click("input[type=submit]")
        expect(page.get_by_role("link", name="Dags", exact=False).first).to_be_visible(timeout=60_000)
        yield page
        browser.close()


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "Dags"),
        ("/dags", "Dags"),
        ("/dags/orders_etl/code", "ORDERS"),
        ("/plugin/grafana", "Grafana"),
        ("/connections", "Connection"),
        ("/variables", "Variable"),
        ("/providers", "Provider"),
        ("/auth/users/list/", "admin"),
        ("/auth/roles/list/", "Viewer"),
        ("/auth/users/add", "Password"),
    ],
)
def test_every_page_works_with_the_scripts_that_it_may_run(
    page: Page, refused: list[str], path: str, shown: str
) -> None:
    refused.clear()
    page.goto(path)
    page.wait_for_load_state("networkidle")
    expect(page.get_by_text(shown).first).to_be_visible()
    assert refused == []


def test_a_script_that_is_not_airflow_s_does_not_run(page: Page, refused: list[str]) -> None:
    page.goto("/dags")
    page.evaluate(
        "() => { const planted = document.createElement('script'); planted.text = 'window.planted = 1';"
        " document.body.append(planted); }"
    )
    assert page.evaluate("() => window.planted") is None
    assert refused
