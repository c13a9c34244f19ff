"""Logs of very many lines stay usable."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Locator, Page, expect  # noqa: E402

from tests.browser.frames import heap, long_frames, scroll_through, watch_frames  # noqa: E402
from tests.browser.programs import ended, going_on  # noqa: E402
from tests.browser.view import View  # noqa: E402
from tests.support.backend import BackendProcess  # noqa: E402
from tests.support.processes import tell  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

MOST_LINES = 600  # in the document: a few pages of 100

# A line is the number that its place in the log is, so that it can be told where one belongs.
LINES = """
    import logging

    count = int(sys.argv[1])
    talk = logging.getLogger("talk")

    @task
    def says(first, last):
        for number in range(first, last):
            if number % 1000 == 0:
                talk.warning(f"{number} is a round number")
            else:
                print(f"{number} \\x1b[3{number % 8}mof {count}\\x1b[0m {'x' * (number % 90)}")

    @flow
    def talkative():
        says(1, count // 2 + 1)
        says(count // 2 + 1, count + 1)

    configure(flush_timeout=600)
    talkative()
"""

# Talks for a while each time that it is told to.
LIVE = """
    count = int(sys.argv[1])

    @task
    def says():
        print("1 is the first", flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads the other end from here on
        for number in range(2, count + 1):
            if number in (2, count // 2):
                sys.stdin.readline()
            print(f"{number} of {count}")
            if number % 200 == 0:
                time.sleep(0.02)
        sys.stdin.readline()

    @flow
    def talking():
        says()

    print("running")
    configure(flush_timeout=60)
    talking()
"""


def _log(page: Page) -> Locator:
    """What scrolls the lines, in sight."""
    box = page.get_by_role("group", name="lines of the log")
    box.evaluate("(box) => box.scrollIntoView({ block: 'center' })")
    return box


def _first_line(page: Page) -> int:
    """The number of the first line that is in sight."""
    found: int = page.evaluate("""() => {
          const box = document.querySelector(".log-lines").getBoundingClientRect();
          const rows = [...document.querySelectorAll(".line")];
          const first = rows.find((row) => row.getBoundingClientRect().bottom > box.top + 1);
          return first === undefined ? 0 : Number(first.dataset.seq);
        }""")
    return found


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(20_000, id="20k"),
        pytest.param(1_000_000, id="1M", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_a_log_of_very_many_lines(
    start: Callable[..., BackendProcess],
    look: Callable[..., View],
    tmp_path: Path,
    figures: Callable[..., None],
    count: int,
) -> None:
    backend = start()
    run = ended(backend, tmp_path, LINES, count, timeout=600)
    view = look(backend.url)
    watch_frames(view)
    began = time.monotonic()
    page = view.open(f"/runs/{run}")
    lines = page.locator(".line")
    expect(page.locator(".line[data-seq='1']")).to_contain_text(f"1 of {count}")
    opened_after = time.monotonic() - began
    opening = long_frames(page)
    box = _log(page)
    box.focus()
    page.keyboard.press("End")
    expect(page.locator(f".line[data-seq='{count}']")).to_be_in_viewport()
    page.keyboard.press("Home")
    expect(page.locator(".line[data-seq='1']")).to_be_in_viewport()

    # a jump to a line by its address, and one by the scroll bar
    target = count * 3 // 4 + 7
    page.evaluate(f"location.hash = '#L{target}'")
    expect(page.locator(f".line[data-seq='{target}']")).to_be_in_viewport()
    expect(page.locator(f".line[data-seq='{target}']")).to_contain_text(f"{target} of {count}")
    box.evaluate("(box) => { box.scrollTop = box.scrollHeight / 2; }")
    middle = page.locator(f".line[data-seq='{count // 2 + 5}']")
    expect(middle).to_have_count(1)
    jumping = long_frames(page)
    assert lines.count() <= MOST_LINES

    # what is sought is found in the whole log
    text = page.get_by_role("searchbox", name="text in the lines")
    text.fill(str(count - 5))
    began = time.monotonic()
    expect(lines).to_have_count(1)
    found_after = time.monotonic() - began
    expect(lines).to_have_attribute("data-seq", str(count - 5))
    expect(lines.locator("mark").first).to_have_text(str(count - 5))
    text.fill("")
    page.get_by_role("combobox", name="level").select_option("WARNING")
    rounds = count // 1000
    expect(page.get_by_text(f"{rounds:,} of {count:,} lines")).to_be_visible()
    expect(lines.first).to_have_attribute("data-seq", "1000")
    page.get_by_role("combobox", name="task", exact=True).select_option("1")
    expect(page.get_by_text(f"{rounds - rounds // 2:,} of {count:,} lines")).to_be_visible()
    expect(lines.first).to_have_attribute("data-seq", str(count // 2 + 1000))
    page.get_by_role("combobox", name="level").select_option("")
    page.get_by_role("combobox", name="task", exact=True).select_option("")
    filtering = long_frames(page)

    expect(page.locator(".line[data-seq='1']")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    file = tmp_path / "whole.log"
    download.value.save_as(file)
    _check_text(file, count)
    figures(
        lines=count,
        opened_after_seconds=opened_after,
        found_after_seconds=found_after,
        opening=opening,
        jumping=jumping,
        filtering=filtering,
        heap_mib=heap(page),
    )


def _check_text(file: Path, count: int) -> None:
    number = 0
    with file.open(newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if number % 1000 == 0:
                assert line == f"talk: {number} is a round number\n"
            else:
                x = "x" * (number % 90)
                assert line == f"{number} \x1b[3{number % 8}mof {count}\x1b[0m {x}\n"
    assert number == count


# In each frame: whether the lines in the document are in order, each the one that its number says.
_WATCH_LINES = """
() => {
  const wrong = [];
  const look = () => {
    let before = 0;
    for (const row of document.querySelectorAll(".line")) {
      const seq = Number(row.dataset.seq);
      const text = row.querySelector(".line-text").textContent;
      if (seq <= before || parseInt(text) !== seq) wrong.push(`${before} ${seq} ${text}`);
      before = seq;
    }
    requestAnimationFrame(look);
  };
  look();
  window.__wrong = wrong;
}
"""


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(20_000, id="20k"),
        pytest.param(300_000, id="300k", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_a_log_that_grows_fast_is_followed(
    start: Callable[..., BackendProcess],
    look: Callable[..., View],
    tmp_path: Path,
    figures: Callable[..., None],
    count: int,
) -> None:
    backend = start()
    with going_on(backend, tmp_path, LIVE, count) as (run, process):
        view = look(backend.url)
        watch_frames(view)
        page = view.open(f"/runs/{run}")
        expect(page.locator(".line[data-seq='1']")).to_be_visible()
        page.evaluate(_WATCH_LINES)
        long_frames(page)
        began = time.monotonic()
        tell(process, "go")
        tell(process, "go on")
        expect(page.locator(f".line[data-seq='{count}']")).to_have_count(1, timeout=200_000)
        took = time.monotonic() - began
        following = long_frames(page)
        assert page.evaluate("window.__wrong") == []
        assert page.locator(".line").count() <= MOST_LINES
        box = _log(page)
        box.focus()
        page.keyboard.press("Home")
        expect(page.locator(".line[data-seq='1']")).to_be_in_viewport()
        if count <= 20_000:
            seen = scroll_through(box, ".line", "data-seq").seen
            assert [int(seq) for seq in seen] == list(range(1, count + 1))
        assert page.evaluate("window.__wrong") == []
        tell(process, "end")
    figures(
        lines=count, lines_per_second=round(count / took), following=following, heap_mib=heap(page)
    )


def test_the_tail_pauses_while_one_reads_and_goes_on_at_the_end(
    start: Callable[..., BackendProcess], look: Callable[..., View], tmp_path: Path
) -> None:
    count = 2_000
    backend = start()
    with going_on(backend, tmp_path, LIVE, count) as (run, process):
        page = look(backend.url).open(f"/runs/{run}")
        expect(page.locator(".line[data-seq='1']")).to_be_visible()
        box = page.get_by_role("group", name="lines of the log")
        half, last = (page.locator(f".line[data-seq='{n}']") for n in (count // 2 - 1, count))
        tell(process, "go")
        expect(half).to_have_count(1)
        box.evaluate("(box) => box.scrollIntoView({ block: 'center' })")
        expect(half).to_be_in_viewport()
        expect(page.get_by_text("following the end")).to_be_visible()
        box.hover()
        page.mouse.wheel(0, -1500)
        to_end = page.get_by_role("button", name=re.compile("to the end"))
        expect(to_end).to_be_visible()
        reading = _first_line(page)
        tell(process, "go on")
        expect(to_end).to_have_text(f"▼ {count // 2 + 1:,} new lines: to the end")
        assert _first_line(page) == reading
        to_end.click()
        expect(last).to_be_in_viewport()
        expect(page.get_by_text("following the end")).to_be_visible()
        tell(process, "end")
