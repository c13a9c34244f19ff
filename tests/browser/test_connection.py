"""What the page says of its connection, and of what the viewer may do."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import expect  # noqa: E402

from tests.browser.view import View  # noqa: E402
from tests.server.peers import Peer  # noqa: E402
from tests.support.backend import BackendProcess  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

FULL, READ = "a-token-for-everything", "a-token-to-read"

Start = Callable[..., BackendProcess]
Look = Callable[..., View]


def _peer(backend: BackendProcess) -> Peer:
    port = int(re.findall(r":(\d+)", backend.url)[0])
    return Peer(port, "night-shift")


def test_without_a_stream_the_page_says_so_and_asks(start: Start, look: Look) -> None:
    backend = start()
    view = look(backend.url)
    view.expect("503")
    view.page.route("**/api/stream*", lambda route: route.fulfill(status=503, body="none"))
    page = view.open("/statistics")
    said = page.locator(".connection")
    expect(said).to_contain_text("no stream")
    expect(page.get_by_role("main")).to_contain_text("No flows yet")
    _peer(backend).register("nightly/load 100%", "extract")
    expect(page.get_by_role("link", name="nightly/load 100%")).to_be_visible()
    page.unroute("**/api/stream*")
    expect(said).to_contain_text("live")
    page.get_by_role("link", name="nightly/load 100%").click()
    expect(page).to_have_title("nightly/load 100% – perfect")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("nightly/load 100%")


def test_a_schedule_is_paused_and_goes_on(start: Start, look: Look) -> None:
    backend = start()
    _peer(backend).register("nightly", "load", schedule="0 3 * * *")
    page = look(backend.url).open("/schedules")
    page.get_by_role("button", name="pause nightly").click()
    expect(page.get_by_role("main")).to_contain_text("⏸ paused")
    page.get_by_role("button", name="resume nightly").click()
    expect(page.get_by_role("main")).to_contain_text("next in")


def test_who_may_only_read_is_offered_nothing_else_and_logs_out(start: Start, look: Look) -> None:
    backend = start("--base-path", "/x", "--token", FULL, "--read-token", READ)
    peer = _peer(backend)
    peer.headers["Authorization"] = f"Bearer {FULL}"
    peer.post("/x/api/flows", {"name": "nightly", "schedule": "0 3 * * *"}).ok()
    view = look(backend.url)
    view.expect("401")
    page = view.open("/schedules")
    page.get_by_label("Token").fill(READ)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{backend.url}/schedules")
    expect(page.get_by_text("read only")).to_be_visible()
    expect(page.get_by_text("next in")).to_be_visible()
    expect(page.get_by_role("button", name="pause nightly")).to_have_count(0)
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile("/x/login"))


def test_a_session_that_ended_leads_to_the_login_and_back(start: Start, look: Look) -> None:
    backend = start("--base-path", "/x", "--token", FULL)
    view = look(backend.url)
    view.expect("401")
    page = view.open("/clients")
    for _ in range(2):
        page.get_by_label("Token").fill(FULL)
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(f"{backend.url}/clients")
        expect(page.get_by_role("main")).to_contain_text("Nobody is connected")
        view.context.clear_cookies()
        # the page notices at its next request
    expect(page).to_have_url(re.compile("/x/login"), timeout=15_000)
