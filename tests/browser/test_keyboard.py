"""Without a mouse, and without the right to change anything."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Page, Route, expect  # noqa: E402

from tests.browser.past import Past  # noqa: E402
from tests.browser.view import View, settle  # noqa: E402
from tests.browser.workshop import Workshop, workshop  # noqa: E402
from tests.support.backend import BackendProcess  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

Start = Callable[..., BackendProcess]
Look = Callable[..., View]

FULL, READ = "a-token-for-everything", "a-token-to-read"
PLACES = {
    "h": ("/history", "History"),
    "s": ("/schedules", "Schedules"),
    "t": ("/statistics", "Statistics"),
    "c": ("/clients", "Clients"),
    "l": ("/", "Library"),
}
ACTING = re.compile(
    r"^(Run(?!s)|Cancel|Delete|pause|resume|Clear statistics|Select all|select )|^all on this page$"
)


def _go(page: Page, letter: str) -> None:
    page.keyboard.press("g")
    page.keyboard.press(letter)


def test_letters_lead_to_every_page(start: Start, look: Look) -> None:
    backend = start()
    page = look(backend.url).open("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Library")
    for letter, (path, title) in PLACES.items():
        _go(page, letter)
        expect(page).to_have_url(backend.url + path)
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
        expect(page).to_have_title(f"{title} – perfect")
        expect(page.get_by_role("main")).to_be_focused()
    # a letter alone, or in a field, is a letter
    page.keyboard.press("h")
    _go(page, "x")
    expect(page).to_have_url(f"{backend.url}/")
    _go(page, "h")
    page.keyboard.press("/")
    expect(page.get_by_label("Search", exact=True)).to_be_focused()
    page.keyboard.type("gc?")
    expect(page.get_by_label("Search", exact=True)).to_have_value("gc?")
    expect(page).to_have_url(f"{backend.url}/history")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_slash_leads_to_the_search(shop: Workshop, view: View) -> None:
    run = shop.run("nightly")
    shop.until(run, "COMPLETED")
    for path in ("/", "/history", "/statistics", f"/runs/{run}"):
        page = view.open(path)
        expect(page.locator("[data-search]").first).to_be_visible()
        page.keyboard.press("/")
        expect(page.locator("[data-search]").first).to_be_focused()
        expect(page.locator("[data-search]").first).to_have_value("")


def test_the_help_opens_closes_and_gives_the_focus_back(start: Start, look: Look) -> None:
    page = look(start().url).open("/history")
    button = page.get_by_role("button", name="Filter", exact=True)
    button.focus()
    help_ = page.get_by_role("dialog", name="Shortcuts")
    for close in ("Escape", "Enter"):  # the only button has the focus
        page.keyboard.press("?")
        expect(help_).to_be_visible()
        for _, title in PLACES.values():
            expect(help_).to_contain_text(f"to {title}")
        _go(page, "c")  # is not obeyed while it is open
        page.keyboard.press(close)
        expect(help_).to_have_count(0)
        expect(button).to_be_focused()
    expect(page.get_by_role("heading", level=1)).to_have_text("History")


def test_a_flow_is_run_by_keyboard_alone(shop: Workshop, view: View) -> None:
    page = view.open("/")
    opener = page.get_by_role("button", name="Run greeting", exact=True)
    dialog = page.get_by_role("dialog", name="Run greeting")
    opener.focus()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(opener).to_be_focused()
    expect(page).to_have_url(f"{shop.backend.url}/")
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Configuration", exact=True)).to_be_focused()
    name = dialog.get_by_label(re.compile("^name"))
    for _ in range(5):
        if name.evaluate("it => it === document.activeElement"):
            break
        page.keyboard.press("Tab")
    expect(name).to_be_focused()
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/runs/"))
    expect(page.get_by_role("main")).to_contain_text("hello Ada")


def test_escape_twice_while_something_is_done_leaves_the_window(start: Start, look: Look) -> None:
    backend = start()
    Past(backend, "night-shift").tell("nightly", ["COMPLETED"] * 3)
    page = look(backend.url).open("/history")
    page.get_by_label("all on this page").check()
    page.get_by_role("button", name="Delete", exact=True).click()
    dialog = page.get_by_role("dialog")
    waiting: list[Route] = []
    page.route("**/api/runs/*", lambda route: waiting.append(route))
    dialog.get_by_role("button", name="Delete 3 runs").click()
    expect(dialog).to_contain_text("0 of 3 …")
    for _ in range(3):
        page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    for route in waiting:
        route.continue_()
    page.unroute("**/api/runs/*")
    expect(dialog).to_contain_text("3 of 3 done.")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("main")).to_contain_text("Nothing has run yet.")


def test_times_name_their_zone(start: Start, look: Look) -> None:
    backend = start()
    (run,) = Past(backend, "night-shift").tell("nightly", ["COMPLETED"])
    for zone, shown in (
        ("Europe/Berlin", "2026-02-02 03:40:00"),
        ("America/St_Johns", "2026-02-01 23:10:00"),
        ("Australia/Eucla", "2026-02-02 11:25:00"),
    ):
        page = look(backend.url, timezone_id=zone).open("/history")
        expect(page.get_by_role("navigation", name="pages", exact=True)).to_contain_text(
            f"times in {zone}"
        )
        when = page.get_by_role("cell", name=shown)
        expect(when).to_have_attribute("title", f"{shown} {zone}")
        page.goto(f"{backend.url}/runs/{run}")
        expect(page.get_by_text(f"started {shown}")).to_have_attribute("title", f"{shown} {zone}")


def test_a_wrong_token_is_said_and_the_right_one_leads_where_one_wanted(
    start: Start, look: Look
) -> None:
    backend = start(token=FULL)
    view = look(backend.url)
    view.expect("401")
    page = view.open("/history?flow=a%26b&q=%3Cb%3E")
    for _ in range(2):
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("That is not the token.")
        expect(page.get_by_label("Token")).to_be_focused()
    page.get_by_label("Token").fill(FULL)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{backend.url}/history?flow=a%26b&q=%3Cb%3E")
    expect(page.get_by_label("Flow", exact=True)).to_have_value("a&b")


def test_who_may_only_read_finds_nothing_to_press(start: Start, look: Look) -> None:
    backend = start("--token", FULL, "--read-token", READ)
    past = Past(backend, "night-shift")
    past.peer.headers["Authorization"] = f"Bearer {FULL}"
    *_, failed = past.tell("nightly", ["COMPLETED", "FAILED"])
    flow = past.peer.register("going on", "work", schedule="0 3 * * *")
    running = past.peer.begin(flow["id"])
    view = look(backend.url)
    view.expect("401")
    page = view.open("/")
    page.get_by_label("Token").fill(READ)
    page.keyboard.press("Enter")
    expect(page.get_by_text("read only")).to_be_visible()
    found: list[tuple[str, str]] = []
    for path in (
        "/",
        f"/?run={flow['id']}",
        "/history",
        f"/runs/{failed}",
        f"/runs/{running}",
        "/schedules",
        "/statistics",
        "/flows/nightly",
        "/clients",
    ):
        view.open(path)
        settle(page)
        for role in ("button", "checkbox"):
            for one in page.get_by_role(role, name=ACTING).all():
                if one.is_enabled():
                    found.append((path, one.evaluate("it => it.outerHTML")))
        expect(page.get_by_role("dialog")).to_have_count(0)
    assert not found


def test_who_may_do_everything_finds_what_to_press(
    start: Start, look: Look, tmp_path: object
) -> None:
    backend = start()
    past = Past(backend, "night-shift")
    (done,) = past.tell("nightly", ["COMPLETED"])
    for path, number in (("/", 2), ("/history", 2), (f"/runs/{done}", 1)):
        page = look(backend.url).open(path)
        found = page.get_by_role("button", name=ACTING).or_(
            page.get_by_role("checkbox", name=ACTING)
        )
        expect(found.nth(number - 1)).to_be_visible()
