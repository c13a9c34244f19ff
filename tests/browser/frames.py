"""How smooth a page is, and how much of it there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, Page

from tests.browser.view import View

# Times during which a page did not answer (W3C Long Tasks). The browser gives those from 50 ms on.
_WATCH = """
window.__long = [];
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) window.__long.push(one.duration);
}).observe({ type: "longtask", buffered: true });
"""
_LONG = 100  # ms

# From the top of what scrolls to its end, a bit less than a window each frame: the most elements there were at a
# time, and what the rows in it were called by an attribute, in order.
_THROUGH = """
async (box, [row, name, step, last_name]) => {
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  const rows = () => [...box.querySelectorAll(row)];
  const seen = new Set();
  let most = 0, still = 0, began = performance.now();
  box.scrollTop = 0;
  while (still < 20 && !seen.has(last_name)) {
    if (performance.now() - began > 120000) break;
    await frame();
    const now = rows();
    most = Math.max(most, now.length);
    const before = seen.size;
    for (const one of now) seen.add(one.getAttribute(name));
    const view = box.getBoundingClientRect();
    // not past rows that are not here yet
    const last = now.at(-1)?.getBoundingClientRect();
    const filled = last !== undefined && last.bottom >= view.bottom - 40;
    const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 1;
    if (atEnd) still = seen.size === before && last_name === null ? still + 1 : 0;
    else if (filled || performance.now() - began > 60000) box.scrollTop += box.clientHeight * step;
  }
  return { most, seen: [...seen] };
}
"""


def watch_frames(view: View) -> None:
    """Note every long task of the pages that are opened from now on."""
    view.context.add_init_script(_WATCH)


def long_frames(page: Page) -> dict[str, Any]:
    """How many long frames there were since this was last asked, and the longest, in ms."""
    found: list[float] = page.evaluate("window.__long.splice(0)")
    return {
        "long_frames": sum(one > _LONG for one in found),
        "longest_ms": round(max(found, default=0)),
    }


def heap(page: Page) -> int:
    """MiB that the page's scripts hold, after a collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used: float = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return round(used / 2**20)


@dataclass(frozen=True)
class Scrolled:
    """What was seen while a list was scrolled: the most rows at a time, and all of them by a name."""

    most: int
    seen: list[str]


def scroll_through(
    box: Locator, row: str, name: str, step: float = 0.9, until: str | None = None
) -> Scrolled:
    """Scroll a list from its top to its end.

    Args:
        box: that scrolls.
        row: selector of its rows.
        name: attribute that tells them apart.
        step: how far each frame, in windows; more than 1 leaves rows out.
        until: what the last row is called, of a list that is continued at its end.
    """
    return Scrolled(**box.evaluate(_THROUGH, [row, name, step, until]))
