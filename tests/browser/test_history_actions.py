"""Several runs of the history at once: deleted, cancelled, run again."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Locator, Page, expect  # noqa: E402

from tests.browser.past import Past  # noqa: E402
from tests.browser.view import View, rows  # noqa: E402
from tests.browser.workshop import Workshop  # noqa: E402
from tests.support.backend import BackendProcess  # noqa: E402
from tests.support.processes import poll_until  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

Start = Callable[..., BackendProcess]
Look = Callable[..., View]


def choose(page: Page, *runs: str) -> None:
    """Select some of the runs that are shown."""
    for run in runs:
        page.get_by_role("checkbox", name=re.compile(run[:8])).click()


def ask(page: Page, what: str) -> Locator:
    """The dialog that asks whether to do something to those selected."""
    page.get_by_role("region", name="chosen runs").get_by_role(
        "button", name=re.compile(f"^{what}( \\d+)?$")
    ).click()
    return page.get_by_role("dialog", name=re.compile(f"^{what}:"))


def confirm(dialog: Locator, what: str, done: str) -> None:
    """Do it, and go on."""
    dialog.get_by_role("button", name=re.compile(f"^{what} \\d+ runs?$")).click()
    expect(dialog.get_by_role("status")).to_have_text(done)
    dialog.get_by_role("button", name="Close", exact=True).first.click()
    expect(dialog).to_have_count(0)


def test_each_action_is_for_those_that_it_fits(shop: Workshop, view: View) -> None:
    done, failed = shop.run("nightly"), shop.run("broken")
    for run in (done, failed):
        shop.until(run, "COMPLETED", "FAILED")
    first, second = shop.run("gated"), shop.run("gated")
    for run in (first, second):
        shop.until(run, "RUNNING")
    page = view.open("/history")
    chosen = page.get_by_role("region", name="chosen runs")
    expect(rows(page)).to_have_count(4)
    expect(chosen).to_have_count(0)
    page.get_by_label("all on this page").check()
    expect(chosen).to_contain_text("4 runs selected")

    dialog = ask(page, "Cancel")
    expect(dialog).to_contain_text("2 others of those selected: over already.")
    dialog.get_by_role("button", name="Leave it").click()
    expect(chosen).to_contain_text("4 runs selected")
    confirm(ask(page, "Cancel"), "Cancel", "2 of 2 done.")
    for run in (first, second):
        row = rows(page).filter(has_text=run[:8])
        expect(row.locator("[data-state=CANCELLED].state")).to_be_visible()
    expect(chosen).to_have_count(0)

    choose(page, done, first)
    shop.open_the_gate()
    confirm(ask(page, "Run again"), "Run again", "2 of 2 done.")
    expect(rows(page)).to_have_count(6)
    expect(rows(page).first.locator("[data-state=COMPLETED].state")).to_be_visible()

    choose(page, failed, second)
    dialog = ask(page, "Delete")
    expect(dialog).to_contain_text("Their tasks, logs and reports go with them.")
    confirm(dialog, "Delete", "2 of 2 done.")
    expect(rows(page)).to_have_count(4)
    left = {one["id"] for one in shop.backend.runs()}
    assert len(left) == 4 and not {failed, second} & left


def test_what_could_not_be_done_is_said_by_name(start: Start, look: Look) -> None:
    backend = start()
    ids = Past(backend, "night-shift").tell("nightly", ["COMPLETED"] * 4)
    view = look(backend.url)
    view.expect("404|409")
    page = view.open("/history")
    page.get_by_label("all on this page").check()
    dialog = ask(page, "Delete")
    for run in ids[:2]:  # somebody else is faster
        assert backend.request("DELETE", f"/api/runs/{run}")[0] == 200
    dialog.get_by_role("button", name="Delete 4 runs").click()
    expect(dialog.get_by_role("status")).to_have_text("2 of 4 done.")
    expect(dialog.get_by_role("alert")).to_contain_text("2 refusals:")
    for run in ids[:2]:
        expect(dialog.get_by_role("listitem").filter(has_text=run[:8])).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.get_by_role("main")).to_contain_text("Nothing has run yet.")
    assert backend.runs() == []


def test_without_a_client_running_again_waits_and_the_page_says_so(
    start: Start, look: Look
) -> None:
    backend = start()
    Past(backend, "night-shift").tell("nightly", ["FAILED"] * 2)
    page = look(backend.url).open("/history")
    page.get_by_label("all on this page").check()
    confirm(ask(page, "Run again"), "Run again", "2 of 2 done.")
    expect(rows(page).locator("[data-state=PENDING].state")).to_have_count(2)
    expect(rows(page).filter(has_text="asked ")).to_have_count(2)


def test_a_range_pages_and_all_that_match(start: Start, look: Look) -> None:
    backend = start()
    past = Past(backend, "night-shift")
    past.tell("nightly", ["COMPLETED"] * 60)
    past.tell("other", ["FAILED"] * 3)
    page = look(backend.url).open("/history?flow=nightly")
    chosen = page.get_by_role("region", name="chosen runs")
    rows(page).nth(2).get_by_role("checkbox").click()
    rows(page).nth(6).get_by_role("checkbox").click(modifiers=["Shift"])
    expect(chosen).to_contain_text("5 runs selected")
    whole = page.get_by_label("all on this page")
    assert whole.evaluate("box => box.indeterminate")
    page.get_by_role("link", name="Older").click()
    expect(rows(page)).to_have_count(10)
    expect(whole).not_to_be_checked()
    whole.check()
    expect(chosen).to_contain_text("15 runs selected")
    chosen.get_by_role("button", name="Select all that match").click()
    expect(chosen).to_contain_text("60 runs selected")
    confirm(ask(page, "Delete"), "Delete", "60 of 60 done.")
    assert {one["flowName"] for one in backend.runs()} == {"other"}
    page.get_by_role("button", name="Clear").click()
    expect(rows(page)).to_have_count(3)
    expect(chosen).to_have_count(0)
    # other filters mean another choice
    whole.check()
    page.get_by_role("group", name="states").get_by_role("button", name="FAILED").click()
    expect(chosen).to_have_count(0)


def test_a_run_that_is_deleted_while_one_watches_is_said_to_be_gone(
    shop: Workshop, view: View
) -> None:
    view.expect("404")
    run = shop.run("nightly")
    shop.until(run, "COMPLETED")
    page = view.open(f"/runs/{run}")
    expect(page.get_by_role("main")).to_contain_text("COMPLETED")
    poll_until(lambda: shop.backend.request("DELETE", f"/api/runs/{run}")[0] in (200, 404))
    expect(page.get_by_role("main")).to_contain_text("There is no such run")
