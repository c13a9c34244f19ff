"""Runs with very many tasks and nodes stay usable."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import expect  # noqa: E402

from tests.browser.frames import heap, long_frames, scroll_through, watch_frames  # noqa: E402
from tests.browser.programs import ended, going_on  # noqa: E402
from tests.browser.view import View  # noqa: E402
from tests.support.backend import BackendProcess  # noqa: E402
from tests.support.processes import tell  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

MOST_ROWS = 100  # of tasks in the document

# One task in the middle has a name of its own, another fails.
TASKS = """
    count = int(sys.argv[1])

    @task
    def step(number):
        if number == 7:
            print("the seventh step")

    @task(name="needle in the haystack")
    def needle():
        print("found")

    @task(name="breaks", crucial_pass=False)
    def breaks():
        raise ValueError("the one that fails")

    @flow
    def many():
        for number in range(count - 2):
            step(number)
            if number == count // 2:
                needle()
            if number == count // 3:
                breaks()

    configure(flush_timeout=100)
    many()
"""

GRAPH = """
    from perfect import core

    layers, width = int(sys.argv[1]), int(sys.argv[2])

    @core.task
    def node(*above):
        return 1

    with core.Flow("woven", executor=core.ThreadExecutor(4)) as woven:
        above = [node() for _ in range(width)]
        for _ in range(layers - 1):
            above = [node(above[at], above[(at + 1) % width]) for at in range(width)]

    configure(flush_timeout=60)
    woven.run()
"""

# Calls its tasks when it is told to.
WATCHED = """
    count = int(sys.argv[1])

    @task(estimated_time=10)
    def step(number):
        if number % 50 == 0:
            time.sleep(0.01)

    @flow
    def many():
        step(1)
        print("1 is the first", flush=True)
        sys.stdin.readline()
        for number in range(1, count):
            step(number)
        sys.stdin.readline()

    print("running")
    configure(flush_timeout=60)
    many()
"""


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(10_000, id="10k"),
        pytest.param(50_000, id="50k", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_a_run_of_very_many_tasks(
    start: Callable[..., BackendProcess],
    look: Callable[..., View],
    tmp_path: Path,
    figures: Callable[..., None],
    count: int,
) -> None:
    backend = start()
    run = ended(backend, tmp_path, TASKS, count, timeout=300)
    view = look(backend.url)
    watch_frames(view)
    began = time.monotonic()
    page = view.open(f"/runs/{run}")
    tasks = page.get_by_role("listbox")
    expect(tasks.get_by_role("option").first).to_be_visible()
    shown_after = time.monotonic() - began
    sought = page.get_by_role("searchbox", name="part of a task's name")
    sought.fill("needle")
    expect(tasks.get_by_role("option")).to_have_count(1)
    usable_after = time.monotonic() - began
    opening = long_frames(page)
    expect(tasks.get_by_role("option")).to_contain_text("needle in the haystack")
    tasks.get_by_role("option").click()
    expect(page.get_by_role("heading", name="needle in the haystack")).to_be_visible()
    expect(page.locator(".line")).to_have_text(re.compile("found$"))
    page.get_by_role("button", name="Close", exact=True).click()

    sought.fill("")
    only_failed = page.get_by_role("group", name="only tasks in these states").get_by_role(
        "button", name="FAILED"
    )
    only_failed.click()
    expect(tasks.get_by_role("option")).to_have_count(1)
    expect(tasks.get_by_role("option")).to_contain_text("breaks")
    only_failed.click()
    expect(tasks.get_by_role("option", name=re.compile("step")).first).to_be_visible()

    long_frames(page)
    through = scroll_through(tasks, "[role=option]", "aria-posinset", step=1.5, until=str(count))
    scrolling = long_frames(page)
    assert through.most <= MOST_ROWS
    assert {"1", str(count)} <= set(through.seen)
    # keys, too
    tasks.focus()
    page.keyboard.press("Home")
    expect(tasks.locator("[aria-posinset='1']")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("End")
    expect(tasks.locator(f"[aria-posinset='{count}']")).to_have_attribute("aria-selected", "true")
    assert page.locator("*").count() < 2_000
    figures(
        tasks=count,
        shown_after_seconds=shown_after,
        usable_after_seconds=usable_after,
        opening=opening,
        scrolling=scrolling,
        most_rows=through.most,
        heap_mib=heap(page),
    )


def test_a_graph_of_hundreds_of_nodes(
    start: Callable[..., BackendProcess],
    look: Callable[..., View],
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    layers, width = 20, 20
    backend = start()
    run = ended(backend, tmp_path, GRAPH, layers, width, timeout=100)
    view = look(backend.url)
    watch_frames(view)
    page = view.open(f"/runs/{run}")
    page.get_by_role("button", name="graph", exact=True).click()
    began = time.monotonic()
    nodes = page.locator("svg .node")
    expect(nodes).to_have_count(layers * width, timeout=60_000)
    drawn_after = time.monotonic() - began
    expect(page.locator("svg .edge")).to_have_count((layers - 1) * width * 2)
    drawing = long_frames(page)
    for _ in range(3):
        page.get_by_role("button", name="zoom out").click()
    page.get_by_role("button", name="Fit").click()
    nodes.last.focus()
    page.keyboard.press("Enter")
    expect(nodes.last).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("heading", name="node")).to_be_visible()
    acting = long_frames(page)
    page.get_by_role("button", name="timeline", exact=True).click()
    expect(page.get_by_role("listbox")).to_have_attribute("aria-label", f"{layers * width} tasks")
    figures(nodes=layers * width, drawn_after_seconds=drawn_after, drawing=drawing, acting=acting)


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(2_000, id="2k"),
        pytest.param(10_000, id="10k", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_very_many_tasks_are_watched(
    start: Callable[..., BackendProcess],
    look: Callable[..., View],
    tmp_path: Path,
    figures: Callable[..., None],
    count: int,
) -> None:
    backend = start()
    with going_on(backend, tmp_path, WATCHED, count) as (run, process):
        view = look(backend.url)
        watch_frames(view)
        page = view.open(f"/runs/{run}")
        tasks = page.get_by_role("listbox")
        expect(tasks).to_have_attribute("aria-label", "1 tasks")
        expect(page.locator("[data-connection=live]")).to_be_visible()
        long_frames(page)
        began = time.monotonic()
        tell(process, "go")
        expect(tasks).to_have_attribute("aria-label", f"{count} tasks", timeout=100_000)
        completed = page.get_by_role("group", name="only tasks in these states").get_by_role(
            "button", name=f"COMPLETED {count:,}"
        )
        expect(completed).to_be_visible(timeout=100_000)
        took = time.monotonic() - began
        watching = long_frames(page)
        assert tasks.get_by_role("option").count() <= MOST_ROWS
        tell(process, "end")
        expect(page.locator("h1 + [data-state=COMPLETED]")).to_be_visible()
    figures(
        tasks=count, tasks_per_second=round(count / took), watching=watching, heap_mib=heap(page)
    )
