"""From an empty dashboard to the first run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Page, expect  # noqa: E402

from tests.browser.view import View, settle  # noqa: E402
from tests.browser.workshop import Workshop, workshop  # noqa: E402
from tests.support.backend import BackendProcess  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

Look = Callable[..., View]
Start = Callable[..., BackendProcess]


def _go(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()


def test_the_first_visit_says_what_to_do_and_flows_appear_by_themselves(
    start: Start, look: Look, tmp_path: Path
) -> None:
    backend = start()
    page = look(backend.url).open("/")
    expect(page.get_by_role("main")).to_contain_text("No flows yet")
    expect(page.get_by_role("main")).to_contain_text("from perfect import")
    with workshop(backend, tmp_path):
        card = page.get_by_role("article", name="gated")
        expect(card).to_be_visible()
        expect(card).to_contain_text("connected")
        expect(page.get_by_role("main")).not_to_contain_text("No flows yet")


def test_a_flow_is_run_from_the_page(shop: Workshop, view: View) -> None:
    page = view.open("/")
    run = re.compile(r"^Run( nightly)?$")
    page.get_by_role("article", name="nightly").get_by_role("button", name=run).click()
    expect(page).to_have_url(re.compile(r"/runs/[0-9a-f-]{36}"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("nightly")
    expect(page.get_by_role("main")).to_contain_text("COMPLETED")
    expect(page.get_by_role("main")).to_contain_text("prepared <b>everything</b>")


def test_below_a_base_path_everything_is_found(start: Start, look: Look, tmp_path: Path) -> None:
    backend = start("--base-path", "/tools/x")
    with workshop(backend, tmp_path) as shop:
        page = look(backend.url).open("/")
        expect(page.get_by_role("article", name="nightly")).to_be_visible()
        run = shop.run("nightly")
        _go(page, "History")
        expect(page).to_have_url(f"{backend.url}/history")
        page.get_by_role("main").get_by_role("link", name="nightly").first.click()
        expect(page).to_have_url(re.compile(f"/tools/x/runs/{run}"))
        expect(page.get_by_role("main")).to_contain_text("COMPLETED")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_contain_text("nightly")


def test_where_there_is_a_token_one_logs_in_first(start: Start, look: Look) -> None:
    backend = start(token="the-full-token")
    view = look(backend.url)
    view.expect("401")
    page = view.open("/history?state=FAILED")
    page.get_by_label("Token").fill("the-full-token")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{backend.url}/history?state=FAILED")
    expect(page.get_by_role("heading", level=1)).to_contain_text("History")
    settle(page)
    # whose session ended elsewhere is asked again, at once if the page is just asking for something
    view.context.clear_cookies()
    for key in "gc":
        page.keyboard.press(key)
    expect(page.get_by_label("Token")).to_be_visible()
