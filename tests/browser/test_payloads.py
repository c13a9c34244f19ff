"""Nothing from a flow runs script, leads elsewhere or breaks the page."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Locator, Page, expect  # noqa: E402

from tests.browser.hostile import CELLS, CLIENT, CONTROLS, LINES, PROGRAM, TEXTS  # noqa: E402
from tests.browser.view import View, settle  # noqa: E402
from tests.support.backend import BackendProcess  # noqa: E402
from tests.support.processes import Script, await_line, poll_until  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

_WATCH = """
window.__violations = [];
addEventListener("securitypolicyviolation", (event) =>
  window.__violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""
# Whatever is in the document that text alone can't have put there.
_STRANGE = """
() => {
  const found = [...window.__violations];
  if ("hacked" in window) found.push("a script ran");
  const ours = (url) => /^https?:$/.test(url.protocol) && url.host === location.host;
  for (const one of document.querySelectorAll("*")) {
    const name = one.localName;
    for (const { name: key, value } of one.attributes) {
      if (/^on|^srcdoc$|^http-equiv$/i.test(key)) found.push(`${name} ${key}=${value}`);
      if (!["href", "src", "action", "formaction", "xlink:href", "data"].includes(key)) continue;
      const data = name === "link" && value === "data:,"; // the icon of pages without the dashboard
      if (data || ours(new URL(value, document.baseURI))) continue;
      const away = /^https?:/i.test(value) && /noreferrer/.test(one.rel ?? "");
      if (!away) found.push(`${name} ${key}=${value}`);
    }
    if (["img", "iframe", "object", "embed", "frame", "audio", "video"].includes(name))
      found.push(name);
    if (name === "script" && (!one.src || one.textContent !== "")) found.push("script in the page");
    if (name === "base" && one.getAttribute("href") !== "/") found.push("base");
  }
  return found;
}
"""


@dataclass(frozen=True)
class Hostile:
    """A backend that was told everything hostile, and the runs by what they are of."""

    backend: BackendProcess
    runs: dict[str, str]
    running: str
    drawn: str


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    """One that all tests here only look at."""
    folder = tmp_path_factory.mktemp("hostile")
    given, gate = folder / "given.json", folder / "gate"
    given.write_text(
        json.dumps(
            {
                "names": list(TEXTS.values()),
                "controls": CONTROLS,
                "lines": LINES,
                "cells": CELLS,
            }
        )
    )
    with BackendProcess(folder / "backend") as backend:
        script = Script(
            folder / "hostile.py",
            PROGRAM,
            backend_url=backend.url,
            client_id=CLIENT,
            home=folder / "home",
        )
        with script.started(given, gate) as process:
            await_line(process, "serving")
            poll_until(lambda: len(backend.get("/api/engine/flows")) == len(TEXTS) + 1)
            flows = {one["name"]: one["id"] for one in backend.get("/api/engine/flows")}
            runs = {what: _triggered(backend, flows[text], text) for what, text in TEXTS.items()}
            for what, run in runs.items():
                poll_until(
                    lambda run=run: backend.get(f"/api/runs/{run}?lines=0")["state"] == "FAILED",
                    what=what,
                )
            running = _triggered(backend, flows[TEXTS["markup"]], TEXTS["markup"], wait=True)
            poll_until(lambda: "at the gate" in backend.lines(running))
            drawn = _triggered(backend, flows[f"drawn {CLIENT}"])
            poll_until(lambda: backend.get(f"/api/runs/{drawn}")["state"] == "COMPLETED")
            yield Hostile(backend, runs, running, drawn)
            gate.touch()


def _triggered(backend: BackendProcess, flow: str, text: str | None = None, **more: Any) -> str:
    body: dict[str, Any] = {}
    if text is not None:
        parameters = {"text": text, "choice": text, text: text, **more}
        body = {"configuration": text, "parameters": parameters}
    status, answer = backend.request("POST", f"/api/engine/trigger/{flow}", body)
    assert status == 200, answer
    run: str = answer["runId"]
    return run


@pytest.fixture
def page(hostile: Hostile, look: Callable[..., View]) -> Page:
    """One that may show it all."""
    view = look(hostile.backend.url)
    view.expect("status of 404")  # of the page that there is not
    return _page(view)


def _page(view: View) -> Page:
    view.context.add_init_script(_WATCH)
    view.page.on("dialog", lambda dialog: view.wrong.append(f"dialog: {dialog.message}"))
    view.context.on("page", lambda page: view.wrong.append(f"another page: {page.url}"))
    return view.page


def _go(page: Page, hostile: Hostile, path: str) -> None:
    page.goto(hostile.backend.url + path)
    if page.locator("main.page").count():
        settle(page)


def _check(page: Page, what: str) -> None:
    """Only text came of it, and it broke neither the page nor its layout."""
    assert page.evaluate(_STRANGE) == [], what
    assert page.get_by_text("This page broke").count() == 0, what
    for width in (1440, 320):
        page.set_viewport_size({"width": width, "height": 900})
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{what} is {wide} px wide at {width} px"
    page.set_viewport_size({"width": 1280, "height": 720})


def _tasks(page: Page) -> Locator:
    return page.get_by_role("listbox").get_by_role("option")


def _says(page: Page, text: str, where: str = "main") -> None:
    """It is shown as text."""
    # as a browser has it: text nodes keep everything, but two blanks may come from two elements
    expect(page.locator(where).first).to_contain_text(re.sub(r"\s+", " ", text))


def test_pages_with_all_flows(hostile: Hostile, page: Page) -> None:
    for path in ("/", "/history", "/schedules", "/statistics"):
        _go(page, hostile, path)
        for text in TEXTS.values():
            _says(page, text)
        _check(page, path)
    _go(page, hostile, "/clients")
    _check(page, "/clients")
    expect(page.get_by_role("heading", name=CLIENT)).to_be_visible()
    for path in ("/docs", "/openapi.json", "/api/engine/flows", "/nothing/<img src=x>"):
        page.goto(hostile.backend.url + path)
        _check(page, path)


@pytest.mark.parametrize("what", TEXTS)
def test_a_run_page(hostile: Hostile, look: Callable[..., View], what: str) -> None:
    text = TEXTS[what]
    page = _page(look(hostile.backend.url))
    _go(page, hostile, f"/runs/{hostile.runs[what]}")
    _says(page, text, "h1")
    _says(page, text, ".error-message")
    assert text in page.title()
    for fact in ("Configuration", "Tags", "Parameters"):
        expect(page.locator(f".facts div:has(dt:text-is('{fact}')) dd")).not_to_have_text("none")
    for box in page.locator("summary").all():
        box.click()
    _check(page, "failed")
    # the task that has a note, a table and lines
    _tasks(page).first.click()
    expect(page.locator(".task-detail .note")).to_contain_text(re.sub(r"\s+", " ", text))
    _says(page, text, ".result th")
    _says(page, text, ".result td")
    page.locator(".result th button").first.click()
    expect(page.locator(".line").first).to_be_visible()
    page.get_by_role("group", name="lines of the log").press("End")
    _check(page, "task")
    # attempts
    _tasks(page).nth(1).click()
    page.get_by_role("group", name="Attempts").get_by_role("button", name="1", exact=True).click()
    _says(page, text, ".task-detail .error-message")
    _check(page, "attempts")
    # the dialog that runs it again with the same values
    page.get_by_role("link", name="Run again with …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Run", exact=True)).to_be_visible()
    expect(dialog.get_by_label("text", exact=False).first).to_have_value(re.compile(".+", re.S))
    _check(page, "dialog")
    dialog.get_by_role("button", name="as JSON").click()
    expect(dialog.get_by_label("parameters as JSON")).to_have_value(
        re.compile(re.escape(json.dumps(text, ensure_ascii=False)[1:20]))
    )
    _check(page, "dialog as JSON")


@pytest.mark.parametrize("what", TEXTS)
def test_a_flow_and_a_report(hostile: Hostile, look: Callable[..., View], what: str) -> None:
    text = TEXTS[what]
    page = _page(look(hostile.backend.url))
    for path in (
        f"/flows/{quote(text, safe='')}",
        f"/history?q={quote(text, safe='')}",
        f"/runs/{hostile.runs[what]}?log-q={quote('hacked', safe='')}&log-level=ERROR",
        f"/reports/{hostile.runs[what]}.html",
    ):
        _go(page, hostile, path)
        _check(page, path)
    _says(page, text, "h1")
    _says(page, text, "main")


def test_a_graph(hostile: Hostile, page: Page) -> None:
    _go(page, hostile, f"/runs/{hostile.drawn}")
    page.get_by_role("button", name="graph", exact=True).click()
    nodes = page.locator("svg .node")
    expect(nodes).to_have_count(len(TEXTS))
    for at, text in enumerate(TEXTS.values()):
        expect(nodes.locator("title").nth(at)).to_have_text(re.sub(r"\s+", " ", text))
    nodes.first.press("Enter")
    _check(page, "graph")


def test_many_runs_are_acted_on(hostile: Hostile, page: Page) -> None:
    _go(page, hostile, "/history")
    page.get_by_role("checkbox", name="all on this page").click()
    page.get_by_role("button", name=re.compile("Run again")).first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    _check(page, "dialog")


ADDRESSES = (
    "/?q={}&tag={}&run={}&from={}",
    "/history?q={}&state={}&flow={}&tag={}&after={}&since={}&until={}&before={}",
    "/runs/{}",
    "/flows/{}?task={}",
    "/clients?q={}",
    "/schedules?q={}",
    "/statistics?q={}",
    "/login?next={}",
    "/{}",
    "/assets/{}",
)


@pytest.mark.parametrize("what", ["markup", "script address", "path", "__proto__"])
def test_addresses(hostile: Hostile, look: Callable[..., View], what: str) -> None:
    view = look(hostile.backend.url)
    view.expect("status of 4(00|04)")  # there is no such thing
    page = _page(view)
    for address in (
        *ADDRESSES,
        f"/runs/{hostile.runs[what]}?task={{}}&log-q={{}}&log-level={{}}#{{}}",
    ):
        _go(page, hostile, address.replace("{}", quote(TEXTS[what], safe="")))
        _check(page, address)


def test_a_run_that_goes_on(hostile: Hostile, page: Page) -> None:
    _go(page, hostile, "/")
    live = page.get_by_role("region", name="Live runs")
    expect(live).to_contain_text(TEXTS["markup"])
    _check(page, "live")
    _go(page, hostile, "/clients")
    expect(page.get_by_role("link", name=TEXTS["markup"]).first).to_be_visible()
    _check(page, "clients")


def test_a_table_as_csv_holds_no_formula(hostile: Hostile, page: Page) -> None:
    _go(page, hostile, f"/runs/{hostile.runs['quotes']}?task=0")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    name = download.value.suggested_filename
    assert name.endswith(".csv") and not re.search(r"[\"'<>`{}$/\\]", name)
    with Path(download.value.path()).open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == [TEXTS["quotes"], "cell", "deep"]
    assert [row[1] for row in rows[:-1]] == [
        "'=1+1",
        "'+cmd|' /C calc'!A0",
        "'@SUM(1)",
        "-5",  # a number, whoever wrote it
        "'-2+3",
        "'\t=1",
        'a "quoted", b\r\nc',
        "-7",
    ]


def test_the_policy_lets_no_script_in(hostile: Hostile, look: Callable[..., View]) -> None:
    view = look(hostile.backend.url)
    view.expect("Content Security Policy|Refused to")
    page = _page(view)
    answer = page.goto(hostile.backend.url + "/")
    assert answer is not None
    policy = dict(
        (name, values)
        for name, *values in (
            part.split() for part in answer.headers["content-security-policy"].split(";")
        )
    )
    assert policy["script-src"] == ["'self'"] and policy["default-src"] == ["'none'"]
    assert policy["base-uri"] in (["'self'"], ["'none'"])
    settle(page)
    page.evaluate("""() => {
          const script = document.createElement("script");
          script.textContent = "window.hacked = 1";
          document.body.append(script);
          const box = document.createElement("div");
          box.innerHTML = '<img src="data:," onerror="window.hacked = 2">';
          document.body.append(box);
          const link = document.createElement("a");
          link.href = "javascript:window.hacked = 3";
          document.body.append(link);
          link.click();
        }""")
    poll_until(lambda: len(page.evaluate("window.__violations")) >= 3)
    assert page.evaluate("window.hacked") is None
    assert page.evaluate(_STRANGE) != []  # what the other tests go by sees it
