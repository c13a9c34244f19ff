"""The dashboard's budgets, measured: ``python -m tests.benchmarks.page [first] [large] [events] [watching] [ingest]``.

A real backend process, real client processes and Debian's chromium; each row says what was measured, the figure and
its budget. Times that are compared are taken by one clock, the machine's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Request, sync_playwright

from tests.benchmarks.store import ingest_rate
from tests.browser.view import View, chromium
from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line, poll_until, python, tell


@dataclass
class Figure:
    """One measurement.

    Attributes:
        budget: what it may be at the most; None: it is there to compare with.
    """

    name: str
    value: float
    unit: str
    budget: float | None = None


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        flows: in the library.
        loads: pages that are opened, of which the median counts.
        tasks: of the large run.
        runs: with whose events the delay is measured; each has 16 tasks.
        seconds: that the backend's CPU time is measured for, with and without a page.
        running: tasks under way meanwhile.
        events: sent in one measurement of the ingest rate.
        rounds: of measurements that are compared with a control, one after the other.
    """

    flows: int = 20
    loads: int = 5
    tasks: int = 10_000
    runs: int = 8
    seconds: float = 10.0
    running: int = 100
    events: int = 100_000
    rounds: int = 4


SMALL = Size(flows=2, loads=1, tasks=200, runs=1, seconds=1.0, running=10, events=4_000, rounds=1)

FLOWS = """
    import asyncio

    from perfect import cancelled, progress

    @task
    def nothing():
        pass

    @flow
    def large(tasks: int):
        for _ in range(tasks):
            nothing()

    @task
    def told(number):
        # what is said last before each event: when
        print(f"said {number} at {time.time() * 1000:.3f}", flush=True)
        time.sleep(0.037 + number % 5 * 0.023)  # out of step with whoever looks every 100 ms
        DONE[number] = time.time() * 1000

    DONE, BEGUN = {}, {}

    @flow
    def events():
        answer = sys.stdin.readline()
        for number in range(16):
            BEGUN[number] = time.time() * 1000
            told(number)
        print("times", [[BEGUN[n], DONE[n]] for n in range(16)], file=sys.__stdout__, flush=True)

    @task
    async def working(number):
        await asyncio.sleep(number / 300)  # they are not in step with each other
        percent = 0
        while not cancelled():
            percent = (percent + 1) % 100
            progress(percent / 100)
            await asyncio.sleep(0.33)

    @flow
    async def watched(tasks: int):
        await asyncio.gather(*(working(number) for number in range(tasks)))

    for number in range(int(sys.argv[1])):
        flow(name=f"flow {number}", description="One of many.", tags={"team": "data"})(
            lambda: nothing()
        )

    connect()
    print("serving", flush=True)
    listen()
"""

# Interactive: what is to be used is there, and the main thread is free to take an event. Two frames on, what is in
# the document has been painted; a message that is sent then comes after whatever else was waiting.
READY = """
    window.__ready = new Promise((resolve) => {
      const look = () => document.querySelector(SELECTOR) !== null;
      const done = () => requestAnimationFrame(() => requestAnimationFrame(() => {
        const channel = new MessageChannel();
        channel.port1.onmessage = () => resolve(performance.now());
        channel.port2.postMessage(null);
      }));
      const begin = () => {
        if (look()) return done();
        const watch = new MutationObserver(() => { if (look()) { watch.disconnect(); done(); } });
        watch.observe(document, { subtree: true, childList: true, attributes: true });
      };
      begin();
    });
"""

# The time of the first frame in which a task's state, or a line, is there.
WATCH = """
    (() => {
      window.__seen = {};
      const note = (name) => {
        if (name in window.__seen) return;
        window.__seen[name] = 0;
        requestAnimationFrame(() => {
          window.__seen[name] = performance.timeOrigin + performance.now();
        });
      };
      const look = () => {
        for (const row of document.querySelectorAll('[role=option][id^=task-] [data-state]'))
          note(row.closest('[role=option]').id + ' ' + row.dataset.state);
        for (const line of document.querySelectorAll('[data-seq]')) {
          const said = /said \\d+ at [\\d.]+/.exec(line.textContent);
          if (said) note(said[0]);
        }
      };
      new MutationObserver(look).observe(
        document, { subtree: true, childList: true, attributes: true, characterData: true });
    })();
"""

ALL_SEEN = """
    Object.entries(window.__seen).filter(
      ([name, at]) => at > 0 && (name.endsWith('COMPLETED') || name.startsWith('said'))
    ).length === 32
"""

# Scrolls through a list in as many frames; the gaps between frames, in ms.
SCROLL = """
    ([selector, frames]) => new Promise((resolve) => {
      const list = document.querySelector(selector);
      const gaps = [];
      let before = null;
      const step = (now) => {
        if (before !== null) gaps.push(now - before);
        before = now;
        if (gaps.length === frames) return resolve(gaps);
        list.scrollTop = (list.scrollHeight - list.clientHeight) * (gaps.length + 1) / frames;
        requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    })
"""


class Shop:
    """A backend and a client of it.

    Attributes:
        client: its process, which serves the flows.
    """

    def __init__(self, backend: BackendProcess, client: subprocess.Popen[str]) -> None:
        self.backend = backend
        self.client = client

    def begin(self, name: str, **parameters: Any) -> str:
        """The id of a run that was asked for."""
        found = next(one for one in self.backend.get("/api/engine/flows") if one["name"] == name)
        body = {"parameters": parameters}
        status, answer = self.backend.request("POST", f"/api/engine/trigger/{found['id']}", body)
        assert status == 200, answer
        run: str = answer["runId"]
        return run

    def until(self, run: str, fits: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until a run is so."""
        poll_until(lambda: fits(self.backend.get(f"/api/runs/{run}?tasks=0&lines=0")), 120)

    def cpu(self) -> float:
        """Seconds of CPU that the backend has used."""
        assert self.backend.process is not None
        stat = Path(f"/proc/{self.backend.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def opened(folder: Path, flows: int) -> Iterator[Shop]:
    """A backend, and a client with so many flows beside those that are measured."""
    with BackendProcess(folder / "backend") as backend:
        script = Script(folder / "client.py", FLOWS, backend_url=backend.url)
        with script.started(flows) as client:
            await_line(client, "serving")
            expected = flows + 3
            poll_until(lambda: len(backend.get("/api/engine/flows")) == expected)
            yield Shop(backend, client)


@contextmanager
def looking(browser: Browser, shop: Shop, selector: str = "main") -> Iterator[View]:
    """A page without a cache, that says when it is ready: when there is what the selector finds."""
    view = View(browser, shop.backend.url, viewport={"width": 1440, "height": 1600})
    view.context.add_init_script(READY.replace("SELECTOR", repr(selector)))
    view.context.add_init_script(WATCH)
    try:
        yield view
    finally:
        view.context.close()
        view.check()


def ready(page: Page) -> float:
    """ms from the beginning of the navigation until the page was ready."""
    found: float = page.evaluate("window.__ready")
    return found


def share_of(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure_first(browser: Browser, shop: Shop, size: Size) -> Iterator[Figure]:
    """The first visit: how much script, and until it can be used."""
    took, scripts = [], 0.0
    for _ in range(size.loads):
        with looking(browser, shop, "main article button:not([disabled])") as view:
            loaded: list[Request] = []
            view.page.on("requestfinished", lambda one: loaded.append(one))
            took.append(ready(view.open("/")))
            ours = [one for one in loaded if one.resource_type in ("script", "other", "worker")]
            ours = [one for one in ours if one.url.endswith(".js")]
            scripts = sum(one.sizes()["responseBodySize"] for one in ours) / 1024
    yield Figure("script of the first load, as sent (gzip)", scripts, "KiB", 200)
    name = f"library of {size.flows} flows, until a flow can be run"
    yield Figure(f"{name}: median", share_of(took, 0.5), "ms", 1000)
    yield Figure("  the slowest", max(took), "ms")


def measure_large(browser: Browser, shop: Shop, size: Size) -> Iterator[Figure]:
    """A run of many tasks: until all of them can be looked through, and frames while one does."""
    run = shop.begin("large", tasks=size.tasks)
    shop.until(run, lambda found: found["state"] == "COMPLETED")
    rows = f"[role=option][aria-setsize='{size.tasks}']"
    took, gaps = [], []
    for _ in range(size.loads):
        with looking(browser, shop, rows) as view:
            page = view.open(f"/runs/{run}")
            took.append(ready(page))
            gaps += page.evaluate(SCROLL, [".timeline-rows", 200])
            last = page.locator(f"#task-{size.tasks - 1}")
            last.wait_for()
    yield Figure(
        f"run of {size.tasks:,} tasks, until all are listed: median",
        share_of(took, 0.5),
        "ms",
        2000,
    )
    yield Figure("  the slowest", max(took), "ms")
    yield Figure(
        f"  frames > 100 ms of {len(gaps)} while scrolling", sum(gap > 100 for gap in gaps), "", 0
    )
    yield Figure("  the longest frame", max(gaps), "ms", 100)


def measure_events(browser: Browser, shop: Shop, size: Size) -> Iterator[Figure]:
    """From right before something happens in a client to the frame that shows it."""
    lines: list[float] = []
    states: list[float] = []
    with looking(browser, shop) as view:
        for turn in range(size.runs + 1):
            run = shop.begin("events")
            shop.until(run, lambda found: found["state"] == "RUNNING")
            page = view.open(f"/runs/{run}")
            page.locator("[data-connection=live]").wait_for()
            ready(page)
            tell(shop.client, "go")
            times = eval(await_line(shop.client, "times").removeprefix("times "))
            # that COMPLETED is seen of all, and the lines
            poll_until(lambda: page.evaluate(ALL_SEEN), every=0.2)
            if turn == 0:
                continue  # the browser has now read the scripts
            seen: dict[str, float] = page.evaluate("window.__seen")
            for name, at in seen.items():
                if found := re.fullmatch(r"said \d+ at ([\d.]+)", name):
                    lines.append(at - float(found[1]))
            for number, (began, done) in enumerate(times):
                # one that was over before it was told of is never seen to run
                if f"task-{number} RUNNING" in seen:
                    states.append(seen[f"task-{number} RUNNING"] - began)
                states.append(seen[f"task-{number} COMPLETED"] - done)
    for name, delays in (("line", lines), ("state of a task", states)):
        yield Figure(f"{name} on screen, {len(delays)} times: p50", share_of(delays, 0.5), "ms")
        yield Figure("  p99", share_of(delays, 0.99), "ms", 250)
        yield Figure("  the latest", max(delays), "ms")


def measure_watching(browser: Browser, shop: Shop, size: Size) -> Iterator[Figure]:
    """What a page costs the backend that shows tasks which tell their progress thrice a second."""
    run = shop.begin("watched", tasks=size.running)
    shop.until(run, lambda found: found["taskCount"] == size.running)
    shares: dict[str, list[float]] = {"": [], f"/runs/{run}": [], "/": []}
    for _ in range(size.rounds):
        for path, found in shares.items():
            with ExitStack() as stack:
                if path:
                    page = stack.enter_context(looking(browser, shop)).open(path)
                    page.locator("[data-connection=live]").wait_for()
                time.sleep(1)  # what it costs to open it, or that it closed, is over
                began, used = time.monotonic(), shop.cpu()
                time.sleep(size.seconds)
                found.append((shop.cpu() - used) / (time.monotonic() - began) * 100)
    shop.backend.request("POST", f"/api/runs/{run}/cancel")
    shop.until(run, lambda found: found["state"] == "CANCELLED")
    base, of_run, of_library = (share_of(found, 0.5) for found in shares.values())
    yield Figure(f"backend, {size.running} tasks tell their progress, nobody watches", base, "%")
    yield Figure("  more when their run's page is open", of_run - base, "%", 2)
    yield Figure("  more when the library is open", of_library - base, "%", 2)


def measure_ingest(browser: Browser, shop: Shop, size: Size) -> Iterator[Figure]:
    """How fast events are taken while nobody, a page or streams watch; the best of the rounds.

    Of a machine that has other things to do the backend's CPU time per event says more than the rate.
    """
    rates: dict[str, float] = {}
    costs: dict[str, float] = {}

    def note(name: str) -> None:
        used = shop.cpu()
        rates[name] = max(rates.get(name, 0), ingest_rate(shop.backend.port, size.events))
        cost = (shop.cpu() - used) / size.events * 1e6
        costs[name] = min(costs.get(name, cost), cost)

    for _ in range(size.rounds):
        note("nobody watches")
        with looking(browser, shop) as view:
            view.open("/").locator("[data-connection=live]").wait_for()
            note("a page watches")
        for number, name in ((1, "1 stream watches"), (10, "10 streams watch")):
            with python("-c", FOLLOW, str(shop.backend.port), str(number)) as process:
                await_line(process, "open")
                note(name)
    for name, rate in rates.items():
        yield Figure(f"events taken while {name}", rate, "/s")
        yield Figure("  CPU time of the backend, per event", costs[name], "µs")


# In a process of its own: the one that sends has enough to do.
FOLLOW = """
import sys
from threading import Thread
from tests.server.streams import Reader

def read(reader):
    while reader.response.read1(65536):
        pass

for _ in range(int(sys.argv[2])):
    Thread(target=read, args=(Reader(int(sys.argv[1]), timeout=None),)).start()
print("open", flush=True)
"""


PARTS: dict[str, Callable[[Browser, Shop, Size], Iterator[Figure]]] = {
    "first": measure_first,
    "large": measure_large,
    "events": measure_events,
    "watching": measure_watching,
    "ingest": measure_ingest,
}


def measure_all(browser: Browser, size: Size, *parts: str) -> Iterator[Figure]:
    """Every figure, or those of some parts."""
    for name in parts or PARTS:
        with tempfile.TemporaryDirectory() as folder, opened(Path(folder), size.flows) as shop:
            yield from PARTS[name](browser, shop, size)


def row(figure: Figure) -> str:
    """A line of the table."""
    text = f"{figure.name:62} {figure.value:10,.1f} {figure.unit:3}"
    if figure.budget is None:
        return text.rstrip()
    met = "yes" if figure.value <= figure.budget else "NO"
    return f"{text} {figure.budget:10,.0f} {figure.unit:3}  {met}"


def main(*parts: str) -> None:
    print(f"{'':62} {'here':>10}     {'budget':>10}      met")
    with sync_playwright() as playwright, chromium(playwright) as browser:
        for figure in measure_all(browser, Size(), *parts):
            print(row(figure), flush=True)
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"({os.cpu_count()} cores, Python {sys.version.split()[0]}; load at the end {load})")


if __name__ == "__main__":
    main(*sys.argv[1:])
