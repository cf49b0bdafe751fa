"""Airflow's UI in a browser, as people use it: sign in, trigger, watch, read a log, clear one partition."""

import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.e2e.conftest import EVIDENCE
from tests.e2e.deployment import Deployment

A_RUN = 240_000
"""Milliseconds that a run may take."""


@pytest.fixture(scope="module")
def page(observed: Deployment) -> Iterator[Page]:
    """A browser in which the administrator has signed in."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "There is no chromium; tests/cluster/setup-system.sh installs it."
    flags = ["--no-sandbox", "--no-proxy-server", "--disable-gpu", "--disable-dev-shm-usage"]
    with observed.forwarded("airflow-api-server", 8080) as port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        page = browser.new_page(viewport={"width": 1366, "height": 768}, base_url=f"http://127.0.0.1:{port}")
        page.set_default_timeout(60_000)
        try:
            sign_in(page, observed.secret("airflow-admin", "ADMIN_PASSWORD"))
            yield page
        finally:
            keep(page, "last")
            browser.close()


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
    """Keep what is on the screen."""
    folder = EVIDENCE / "screens"
    folder.mkdir(exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")
