"""A history of very many runs: a page at a time, and never more in the document."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Page, expect  # noqa: E402

from tests.browser.past import BEGIN, HOUR, Past  # noqa: E402
from tests.browser.view import View, rows  # noqa: E402
from tests.support.backend import BackendProcess  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

PAGE = 50
MOST_ROWS = 100
MINUTE = HOUR // 60

# how long the page did not answer, ms
WATCH = """
    window.long = [];
    new PerformanceObserver((list) => {
        for (const one of list.getEntries()) window.long.push(Math.round(one.duration));
    }).observe({ type: "longtask", buffered: true });
"""


def _states(number: int) -> Iterator[str]:
    """One in ten failed."""
    return itertools.islice(itertools.cycle(["COMPLETED"] * 9 + ["FAILED"]), number)


def _begins(page: Page, number: int) -> str:
    """How the newest of so many runs, a minute apart, is shown to have begun."""
    at = BEGIN + (number - 1) * MINUTE
    shown: str = page.evaluate("at => new Date(at).toLocaleString('sv-SE')", at)
    return shown


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "number", [10_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_a_long_history_is_turned_filtered_and_jumped_in(
    start: Callable[..., BackendProcess],
    look: Callable[..., View],
    figures: Callable[..., None],
    number: int,
) -> None:
    backend = start()
    past = Past(backend, "night-shift")
    began = time.monotonic()
    past.tell("nightly", _states(number), tags={"team": "data"}, every=MINUTE)
    told = time.monotonic() - began
    view = look(backend.url)
    view.page.add_init_script(WATCH)
    took: dict[str, float] = {}

    def timed(what: str, act: Callable[[], object], first: str, shown: int = PAGE) -> None:
        """Do something, until the page begins with that run."""
        begin = time.monotonic()
        act()
        expect(rows(page).first).to_contain_text(first)
        took[what] = max(took.get(what, 0.0), time.monotonic() - begin)
        expect(rows(page)).to_have_count(shown)
        assert page.locator("tr").count() <= MOST_ROWS

    page = view.page
    timed("first page", lambda: view.open("/history"), _begins(page, number))
    for turn in range(1, 11):
        older = page.get_by_role("link", name="Older")
        timed("next page", older.click, _begins(page, number - turn * PAGE))
    timed("newest", page.get_by_role("link", name="Newest").click, _begins(page, number))
    failed = page.get_by_role("group", name="states").get_by_role("button", name="FAILED")
    timed("failed only", failed.click, _begins(page, number))
    timed(
        "next of these",
        page.get_by_role("link", name="Older").click,
        _begins(page, number - 10 * PAGE),
    )
    timed("all states", failed.click, _begins(page, number))
    # right into the middle, and to the very beginning
    before = page.get_by_label("Started before", exact=True)
    middle = page.evaluate(
        "at => new Date(at).toLocaleString('sv-SE').replace(' ', 'T')",
        BEGIN + number // 2 * MINUTE,
    )
    before.fill(middle)
    timed("a time", lambda: before.press("Enter"), _begins(page, number // 2))
    end = page.evaluate(
        "at => new Date(at).toLocaleString('sv-SE').replace(' ', 'T')", BEGIN + 30 * MINUTE
    )
    before.fill(end)
    timed("the oldest", lambda: before.press("Enter"), _begins(page, 30), 30)
    page.get_by_role("button", name="Clear").click()
    search = page.get_by_label("Search", exact=True)
    search.fill("nothing is called so")
    begin = time.monotonic()
    search.press("Enter")
    expect(page.get_by_role("main")).to_contain_text("No run matches these filters.")
    took["none"] = time.monotonic() - begin
    page.get_by_role("button", name="Clear").click()
    # what is selected beyond the page is not in the document either
    page.get_by_label("all on this page").check()
    page.get_by_role("button", name="Select all that match").click()
    expect(page.get_by_role("region", name="chosen runs")).to_contain_text("5,000 runs selected")
    expect(page.get_by_role("main")).to_contain_text("no more at once")
    assert page.locator("tr").count() <= MOST_ROWS
    # a run that begins appears by itself, on top
    (newest,) = past.tell("nightly", ["FAILED"], begin=BEGIN + number * MINUTE)
    expect(rows(page).first).to_contain_text(newest[:8])
    expect(rows(page)).to_have_count(PAGE)
    long: list[int] = page.evaluate("window.long")
    elements: int = page.evaluate("document.querySelectorAll('*').length")
    assert elements < 3_000
    figures(told_in=told, longest_tasks_ms=sorted(long)[-3:], elements=elements, **took)
