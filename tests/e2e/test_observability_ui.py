"""Airflow's UI in a browser, as people use it: through Traefik, over TLS. They sign in, trigger, watch, read, clear."""

import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.harness.e2e.deployment import Deployment
from tests.harness.e2e.front_door import WayIn
from tests.harness.e2e.testbed import EVIDENCE

A_RUN = 240_000
"""Milliseconds that a run may take."""
MOST_FAILURES = 10
"""So many logins from one address may fail in five minutes."""


@pytest.fixture(scope="module")
def way_in(observed: Deployment) -> WayIn:
    return WayIn.of(observed)


@pytest.fixture(scope="module")
def browser(way_in: WayIn) -> Iterator[Browser]:
    """A browser that trusts the certificate of `ui-tls` and no other self-signed one."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "There is no chromium; tests/cluster/setup-system.sh installs it."
    flags = [
        *("--no-sandbox", "--no-proxy-server", "--disable-gpu", "--disable-dev-shm-usage"),
        f"--ignore-certificate-errors-spki-list={way_in.key_digest}",
        f"--host-resolver-rules=MAP {way_in.name} {way_in.address}",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="module")
def refused() -> list[str]:
    """Resources that the browser blocked by a page's Content-Security-Policy."""
    return []


@pytest.fixture(scope="module")
def page(observed: Deployment, way_in: WayIn, browser: Browser, refused: list[str]) -> Iterator[Page]:
    """A window in which the administrator has signed in."""
    page = opened(browser, way_in.name)
    page.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
    try:
        sign_in(page, observed.secret("airflow-admin", "ADMIN_PASSWORD"))
        yield page
    finally:
        keep(page, "last")


@pytest.fixture(scope="module")
def run(page: Page) -> str:
    """The address of a run that was triggered in the UI and went green."""
    page.goto("/dags/orders_etl")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("checkbox", name="Full refresh").press("Space")
    expect(dialog.get_by_role("checkbox", name="Full refresh")).to_be_checked()
    keep(page, "trigger")
    dialog.get_by_role("button", name="Trigger", exact=True).click()
    page.wait_for_url(re.compile("/runs/manual"))
    expect(page.get_by_role("row", name="reconcile").get_by_text("Success", exact=True)).to_be_visible(timeout=A_RUN)
    keep(page, "green")
    return page.url.partition("?")[0].rstrip("/")


def test_a_run_that_was_triggered_goes_green(page: Page, run: str) -> None:
    expect(page.get_by_role("row").get_by_text("Success", exact=True)).to_have_count(5)


def test_the_log_of_a_task_is_read_from_loki(page: Page, run: str) -> None:
    page.goto(f"{run}/tasks/partition.load/mapped/0")
    expect(page.get_by_text("load: done")).to_be_visible()
    page.get_by_text("Log message source details").click()
    expect(page.get_by_text(re.compile("loki", re.IGNORECASE)).first).to_be_visible()
    keep(page, "log")


def test_one_partition_is_cleared_and_runs_again(page: Page, run: str) -> None:
    page.goto(f"{run}/tasks/partition.extract/mapped/0")
    page.get_by_role("button", name=re.compile("clear")).first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Affected Tasks: 4")).to_be_visible()
    keep(page, "clear")
    dialog.get_by_role("button", name="Confirm").click()
    dialog.wait_for(state="hidden")
    page.goto(run)
    for task, attempt in {"partition.extract": "2", "partition.load": "2", "reconcile": "2", "plan": "1"}.items():
        row = page.get_by_role("row", name=task)
        expect(row.get_by_text("Success", exact=True)).to_be_visible(timeout=A_RUN)
        expect(cell(row, attempt)).to_be_visible(timeout=A_RUN)
    keep(page, "cleared")


def test_the_browser_refused_nothing_of_all_that(run: str, refused: list[str]) -> None:
    assert refused == []


@pytest.mark.parametrize("called", ["name", "address"])
def test_the_certificate_of_the_secret_is_shown(way_in: WayIn, called: str) -> None:
    with way_in.connected(getattr(way_in, called)) as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")


def test_one_signs_in_by_the_address_too(observed: Deployment, way_in: WayIn, browser: Browser) -> None:
    page = opened(browser, way_in.address)
    sign_in(page, observed.secret("airflow-admin", "ADMIN_PASSWORD"))
    assert page.url.startswith(f"https://{way_in.address}/")


def test_who_comes_without_tls_is_sent_to_it(way_in: WayIn) -> None:
    assert way_in.plain("/dags?tags=etl") == (308, f"https://{way_in.address}/dags?tags=etl")


@pytest.mark.parametrize("path", ["/execution/health", "/docs", "/openapi.json", "/auth/api/v1/security/login"])
def test_what_is_for_workers_or_describes_an_api_is_not_there_for_people(way_in: WayIn, path: str) -> None:
    for written in (path, path.replace("/", "//", 1), path.replace("/", "/%2F", 1), path + "/"):
        for headers in ({}, {"Connection": "X-Forwarded-Proto, X-Forwarded-For"}, {"X-Forwarded-Proto": ""}):
            status, found = way_in.ask("POST" if "login" in path else "GET", written, headers=headers)
            # Traefik may send on who writes a path in another way; a path that leads nowhere shows the UI's own page.
            assert status in (301, 308, 400, 404, 405) or "json" not in found.get("Content-Type", ""), written
    assert way_in.ask("GET", path)[0] == 404


@pytest.mark.parametrize("path", ["/auth/login/", "/grafana/login"])
def test_pages_cannot_be_framed_elsewhere(way_in: WayIn, path: str) -> None:
    status, headers = way_in.ask("GET", path)
    assert status == 200
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_after_ten_wrong_passwords_from_an_address_the_right_one_is_refused_too(
    observed: Deployment, way_in: WayIn
) -> None:
    """The last of all: this machine is locked out for minutes."""
    statuses = {way_in.log_in("wrong") for _ in range(MOST_FAILURES)}
    assert statuses == {401}
    right = observed.secret("airflow-admin", "ADMIN_PASSWORD")
    assert way_in.log_in(right) == 429
    # Traefik replaces forged addresses, and does not let a client remove its header.
    assert way_in.log_in(right, **{"X-Forwarded-For": "203.0.113.9", "X-Real-Ip": "203.0.113.9"}) == 429
    for path in ("/auth//token", "/auth/%74oken", "/auth/token/cli", "/AUTH/token"):
        assert way_in.log_in(right, path) >= 400
    with observed.airflow() as airflow:  # from elsewhere
        assert airflow.runs("orders_etl")


def opened(browser: Browser, host: str) -> Page:
    """A browser window for a host."""
    page = browser.new_page(viewport={"width": 1366, "height": 768}, base_url=f"https://{host}")
    page.set_default_timeout(60_000)
    return page


def sign_in(page: Page, password: str) -> None:
    """Sign in as the administrator."""
    page.goto("/")
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill(password)
    page.locator("[type=submit]").click()
    page.get_by_role("link", name="Dags").first.wait_for()


def cell(row: Locator, text: str) -> Locator:
    """A cell of a row with exactly this text."""
    return row.get_by_role("cell", name=text, exact=True).first


def keep(page: Page, name: str) -> None:
    """Save a screenshot."""
    folder = EVIDENCE / "screens"
    folder.mkdir(exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")
