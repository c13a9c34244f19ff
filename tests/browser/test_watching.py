"""Runs are watched while they go on, and acted on."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Page, expect  # noqa: E402

from tests.browser.view import View  # noqa: E402
from tests.browser.workshop import Workshop  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]


def _main(page: Page, text: str) -> None:
    expect(page.get_by_role("main")).to_contain_text(text)


def test_progress_and_lines_arrive_while_one_watches(shop: Workshop, view: View) -> None:
    run = shop.run("gated")
    page = view.open(f"/runs/{run}")
    _main(page, "at the gate")
    _main(page, "RUNNING")
    bar = page.get_by_role("progressbar").first
    expect(bar).not_to_have_attribute("aria-valuenow", re.compile("^(0|100)$"))
    expect(page.get_by_role("main")).not_to_contain_text("past the gate")
    shop.open_the_gate()
    _main(page, "past the gate")
    expect(bar).to_have_attribute("aria-valuenow", "100")
    _main(page, "COMPLETED")
    page.get_by_role("listbox").get_by_role("option", name=re.compile("prepare")).click()
    _main(page, "three rows were prepared")


def test_the_library_shows_what_is_running(shop: Workshop, view: View) -> None:
    page = view.open("/")
    live = page.get_by_role("region", name="Live runs")
    expect(live.get_by_role("link", name="gated")).to_have_count(0)
    run = shop.run("gated")
    expect(live.get_by_role("link", name="gated")).to_be_visible()
    shop.open_the_gate()
    shop.until(run, "COMPLETED")
    expect(live.get_by_role("link", name="gated")).to_have_count(0)


def test_a_failed_run_opens_at_its_first_error(shop: Workshop, view: View) -> None:
    run = shop.run("broken")
    shop.until(run, "FAILED")
    page = view.open(f"/runs/{run}")
    _main(page, "FAILED")
    expect(page.get_by_text(re.compile("ValueError: the third row is empty")).first).to_be_visible()
    expect(page.get_by_text("about to break").first).to_be_visible()


def test_a_run_is_cancelled_and_run_again(shop: Workshop, view: View) -> None:
    run = shop.run("gated")
    page = view.open(f"/runs/{run}")
    _main(page, "at the gate")
    page.get_by_role("button", name="Cancel", exact=True).click()
    confirm = page.get_by_role("dialog").get_by_role("button", name=re.compile("Cancel"))
    if confirm.count():
        confirm.first.click()
    expect(page.locator("[data-state=CANCELLED]").first).to_be_visible()
    shop.open_the_gate()
    page.get_by_role("button", name="Run again", exact=True).click()
    expect(page).not_to_have_url(re.compile(run))
    expect(page.locator("[data-state=COMPLETED]").first).to_be_visible()


def test_a_restart_of_the_backend_is_shown_and_survived(shop: Workshop, view: View) -> None:
    view.expect(
        "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE"
    )
    run = shop.run("gated")
    page = view.open(f"/runs/{run}")
    status = page.locator("[data-connection]").first
    expect(status).to_contain_text("live")
    _main(page, "at the gate")
    shop.backend.kill()
    expect(status).to_contain_text("disconnected")
    shop.backend.start()
    expect(status).to_contain_text("live", timeout=30_000)
    shop.open_the_gate()
    expect(page.locator("[data-state=COMPLETED]").first).to_be_visible(timeout=30_000)
    _main(page, "past the gate")
