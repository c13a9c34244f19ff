"""How things look where it takes a browser to know: axes, places, and what is there only sometimes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Locator, expect  # noqa: E402

from tests.browser.view import View, settle  # noqa: E402
from tests.browser.workshop import Workshop  # noqa: E402
from tests.server.peers import Peer, ended, started  # noqa: E402
from tests.support.backend import BackendProcess  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

Look = Callable[..., View]
Start = Callable[..., BackendProcess]

# what is written on a canvas is not in the document
NOTE_WRITING = """
    window.written = [];
    const write = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
        window.written.push(text);
        return write.call(this, text, ...rest);
    };
"""


def _top(of: Locator) -> float:
    box = of.bounding_box()
    assert box is not None
    return box["y"]


def test_a_trend_of_one_run_stands_at_its_time(shop: Workshop, look: Look) -> None:
    shop.until(shop.run("nightly"), "COMPLETED")
    view = look(shop.backend.url)
    view.page.add_init_script(NOTE_WRITING)
    page = view.open("/flows/nightly")
    expect(page.locator(".trend canvas")).to_be_visible()
    page.wait_for_function("window.written.length > 4")
    written: list[str] = page.evaluate("window.written")
    clocks = [text for text in written if re.fullmatch(r"\d\d:\d\d:\d\d", text)]
    durations = [text for text in written if re.fullmatch(r"0|[\d.]+ m?s", text)]
    assert len(clocks) > 2 and len(durations) > 2, written
    at = page.locator(".figures dd").last.inner_text()
    assert min(clocks) <= at <= max(clocks), (at, clocks)
    # drawn once or twice, and each mark with a label of its own
    for labels in (clocks, durations):
        assert len(set(labels)) * max(map(labels.count, labels)) == len(labels), labels


def test_what_can_be_done_with_runs_is_there_while_some_are_chosen(
    shop: Workshop, view: View
) -> None:
    for _ in range(2):
        shop.until(shop.run("nightly"), "COMPLETED")
    page = view.open("/history")
    boxes = page.get_by_role("checkbox", name=re.compile("^select nightly"))
    expect(boxes).to_have_count(2)
    bar = page.get_by_role("region", name="chosen runs")
    expect(bar).to_have_count(0)
    before = _top(boxes.last)
    boxes.first.check()
    expect(bar).to_contain_text("1 run selected")
    expect(bar).to_be_in_viewport()
    assert _top(boxes.last) == before
    bar.get_by_role("button", name="Select none").click()
    expect(bar).to_have_count(0)


def test_lines_have_their_times_and_it_is_remembered_who_wants_none(
    shop: Workshop, view: View
) -> None:
    run = shop.run("nightly")
    shop.until(run, "COMPLETED")
    page = view.open(f"/runs/{run}")
    at = page.locator(".line-time").first
    expect(at).to_have_text(re.compile(r"^\d\d:\d\d:\d\d\.\d{3}$"))
    expect(at).to_have_attribute("title", re.compile("Europe/Berlin"))
    page.get_by_label("times").uncheck()
    expect(at).to_be_hidden()
    page.reload()
    expect(page.get_by_role("group", name="lines of the log")).to_contain_text("prepared")
    expect(at).to_be_hidden()
    page.get_by_label("times").check()
    expect(at).to_be_visible()
    page.set_viewport_size({"width": 320, "height": 640})
    expect(at).to_be_hidden()
    expect(page.get_by_text("to the end")).to_have_count(0)


def test_what_is_not_there_says_so_and_the_page_stays_live(start: Start, look: Look) -> None:
    view = look(start().url)
    view.expect("404")
    page = view.open("/runs/unknown")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such run")
    expect(page.locator(".connection")).to_contain_text("live")
    page.get_by_role("link", name="To the history").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("History")
    page = view.open("/no/such/page")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")
    settle(page)


@pytest.mark.timeout(180)
def test_the_last_tasks_of_a_very_large_run_are_a_click_away(start: Start, look: Look) -> None:
    backend, run, count = start(), str(uuid.uuid4()), 20_500
    peer = Peer(int(re.findall(r":(\d+)", backend.url)[0]), "night-shift")
    peer.ingest(started(run, "long", *(f"part {n}" for n in range(count))), ended(run, count))
    page = look(backend.url).open(f"/runs/{run}")
    tasks = page.get_by_role("listbox")
    expect(tasks.get_by_role("option", name=re.compile(r"^part 0 "))).to_be_visible()
    page.get_by_role("button", name="To the last tasks").click()
    expect(tasks.get_by_role("option", name=re.compile(f"^part {count - 1} "))).to_be_visible()
    expect(page.get_by_text("The last 2,000 tasks of 20,500.")).to_be_visible()
    page.get_by_role("button", name="To the first tasks").click()
    expect(tasks.get_by_role("option", name=re.compile(r"^part 0 "))).to_be_visible()
