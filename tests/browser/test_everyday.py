"""A day's work: what begins, goes on and ends is seen wherever one happens to look."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import APIResponse, Page, Route, expect  # noqa: E402

from tests.browser.view import View, rows  # noqa: E402
from tests.browser.workshop import Workshop  # noqa: E402
from tests.support.backend import BackendProcess  # noqa: E402
from tests.support.processes import Script, await_line, poll_until, tell  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

Start = Callable[..., BackendProcess]
Look = Callable[..., View]

# Each step is taken when the test says so, on the standard input.
STEPS = """
    @task
    def load(number):
        print(f"loading {number}", flush=True)
        sys.stdin.readline()
        print(f"loaded {number}", flush=True)

    @task(retries=1)
    def check():
        print("checking", flush=True)
        raise LookupError("row <i>7</i> has no price")

    @flow(description="Step by step.")
    def steps():
        for number in range(3):
            load(number)

    @flow
    def failing():
        load(0)
        check()

    print("ready", flush=True)
    sys.stdin.readline()
    connect()
    print("serving", flush=True)
    listen()
"""


def _percent(page: Page) -> float:
    shown = page.get_by_role("progressbar", name="progress of the run")
    return float(shown.get_attribute("aria-valuenow") or "nan")


def test_from_registering_to_the_end(start: Start, look: Look, tmp_path: Path) -> None:
    backend = start()
    page = look(backend.url).open("/")
    script = Script(tmp_path / "steps.py", STEPS, backend_url=backend.url)
    with script.started() as process:
        await_line(process, "ready")
        expect(page.get_by_role("main")).to_contain_text("No flows yet")
        tell(process, "connect")
        card = page.get_by_role("article", name="steps")
        expect(card).to_contain_text("connected")
        expect(card).to_contain_text("never")
        card.get_by_role("button", name="Run steps", exact=True).click()
        main = page.get_by_role("main")
        for number in range(3):
            expect(main).to_contain_text(f"loading {number}")
            expect(main).not_to_contain_text(f"loaded {number}")
            expect(main.locator("[data-state=RUNNING].state").first).to_be_visible()
            assert 0 <= _percent(page) < 100
            tell(process, "go on")
            expect(main).to_contain_text(f"loaded {number}")
        expect(main.locator("header [data-state=COMPLETED].state")).to_be_visible()
        assert _percent(page) == 100
        expect(main).to_contain_text("3 tasks")
        page.get_by_role("link", name="Library", exact=True).click()
        expect(card).to_contain_text("COMPLETED")
        expect(card).not_to_contain_text("never")


def test_a_failing_run_opens_at_its_error_with_the_traceback_folded(
    start: Start, look: Look, tmp_path: Path
) -> None:
    backend = start()
    page = look(backend.url, viewport={"width": 1280, "height": 720}).open("/")
    script = Script(tmp_path / "steps.py", STEPS, backend_url=backend.url)
    with script.started() as process:
        tell(process, "connect")
        page.get_by_role("article", name="failing").get_by_role(
            "button", name="Run failing", exact=True
        ).click()
        expect(page.get_by_role("main")).to_contain_text("loading 0")
        expect(page.get_by_role("region", name="Error")).to_have_count(0)
        tell(process, "go on")
        error = page.get_by_role("region", name="Error")
        for _ in range(2):  # as it happens, and when it is opened later
            expect(error).to_be_in_viewport()
            expect(error).to_contain_text("LookupError: row <i>7</i> has no price")
            expect(error).to_contain_text("in the task check, attempt 2")
            trace = error.get_by_text("raise LookupError")
            expect(trace).not_to_be_visible()
            error.get_by_text(re.compile(r"^Traceback \(\d+ lines\)$")).click()
            expect(trace).to_be_visible()
            page.reload()
        error.get_by_role("button", name="Show this task").click()
        expect(page).to_have_url(re.compile(r"\?task=1"))
        lines = page.get_by_role("group", name="lines of the log")
        expect(lines).to_contain_text("checking")
        expect(lines).not_to_contain_text("loading 0")


def test_the_history_is_live(shop: Workshop, view: View) -> None:
    page = view.open("/history?flow=gated")
    expect(page.get_by_role("main")).to_contain_text("No run matches these filters.")
    run = shop.run("gated")
    row = rows(page).filter(has_text=run[:8])
    expect(row.locator("[data-state=RUNNING].state")).to_be_visible()
    bar = row.get_by_role("progressbar")
    expect(bar).not_to_have_attribute("aria-valuenow", re.compile("^(0|100)$"))
    shop.open_the_gate()
    expect(row.locator("[data-state=COMPLETED].state")).to_be_visible()
    expect(bar).to_have_attribute("aria-valuenow", "100")


def test_a_list_of_one_state_gains_and_loses_runs(shop: Workshop, view: View) -> None:
    page = view.open("/history?state=RUNNING")
    # another list that has the runs, too
    page.get_by_role("group", name="states").get_by_role("button", name="RUNNING").click()
    expect(page.get_by_role("main")).to_contain_text("Nothing has run yet.")
    page.go_back()
    run = shop.run("gated")
    expect(rows(page).filter(has_text=run[:8])).to_have_count(1)
    shop.open_the_gate()
    expect(page.get_by_role("main")).to_contain_text("No run matches these filters.")


def test_what_happened_meanwhile_is_there_on_the_way_back(
    shop: Workshop, view: View, tmp_path: Path
) -> None:
    script = Script(tmp_path / "steps.py", STEPS, backend_url=shop.backend.url)
    with script.started() as process:
        tell(process, "connect")
        poll_until(lambda: "steps" in str(shop.backend.get("/api/engine/flows")))
        first = shop.run("steps")
        page = view.open("/")
        live = page.get_by_role("region", name="Live runs")
        expect(live.get_by_role("link", name="steps")).to_be_visible()
        page.get_by_role("link", name="History", exact=True).click()
        steps = rows(page).filter(has_text=first[:8])
        begun = steps.get_by_role("progressbar").get_attribute("aria-valuenow")
        # the list that is not shown is out of date from here on …
        second = shop.run("gated")
        expect(rows(page).filter(has_text=second[:8])).to_be_visible()
        # … and stays so, though there is news of a run in it
        poll_until(lambda: "loading 0" in shop.backend.lines(first))
        tell(process, "go on")
        expect(steps.get_by_role("progressbar")).not_to_have_attribute("aria-valuenow", str(begun))
        page.get_by_role("link", name="Library", exact=True).click()
        expect(live.get_by_role("link", name="gated")).to_be_visible()
        expect(live.get_by_role("link", name="steps")).to_be_visible()


def test_an_answer_that_is_older_than_the_news_does_not_take_it_back(
    shop: Workshop, view: View
) -> None:
    held: list[tuple[Route, APIResponse]] = []
    page = view.page
    page.route("**/api/runs?state=*", lambda route: held.append((route, route.fetch())))
    view.open("/")
    expect(page.locator("[data-connection=live]")).to_be_visible()
    expect(page.get_by_role("article", name="gated")).to_be_visible()
    run = shop.run("gated")
    card = page.get_by_role("article", name="gated")
    expect(card.locator("[data-state=RUNNING]").first).to_be_visible()  # it has been told
    for route, answer in held:
        assert answer.json()["runs"] == []
        route.fulfill(response=answer)
    page.unroute("**/api/runs?state=*")
    live = page.get_by_role("region", name="Live runs")
    expect(live.get_by_role("link", name="gated")).to_be_visible()
    shop.open_the_gate()
    shop.until(run, "COMPLETED")
    expect(live.get_by_role("link", name="gated")).to_have_count(0)


def test_a_run_is_started_again_and_again(shop: Workshop, view: View) -> None:
    page = view.open(f"/runs/{shop.run('greeting', parameters={'name': 'Ada', 'times': 1})}")
    main = page.get_by_role("main")
    for _ in range(3):
        expect(main.locator("header [data-state=COMPLETED].state")).to_be_visible()
        expect(main).to_contain_text("hello Ada")
        before = page.url
        page.get_by_role("button", name="Run again", exact=True).click()
        expect(page).not_to_have_url(before)
        about = page.get_by_role("region", name="About this run")
        expect(about.get_by_role("link", name=before.rsplit("/", 1)[1])).to_be_visible()
    page.go_back()
    expect(page).to_have_url(before)
    expect(main).to_contain_text("hello Ada")
