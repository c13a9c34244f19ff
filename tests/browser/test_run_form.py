"""A flow is run with parameters from the page, and gets what was typed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Locator, Page, expect  # noqa: E402

from tests.browser.view import View  # noqa: E402
from tests.support.backend import BackendProcess  # noqa: E402
from tests.support.processes import Script, await_line, poll_until  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

Look = Callable[..., View]

FLOWS = '''
    import enum
    from dataclasses import dataclass, field
    from datetime import date, datetime, time as clock
    from typing import Literal
    from perfect import current_run

    class Colour(enum.Enum):
        RED = "red"
        BLUE = "blue"

    @dataclass
    class Source:
        name: str
        since: date
        limit: int = 10

    @flow(description="Takes everything.")
    def everything(
        number: int,
        ratio: float,
        flag: bool,
        day: date,
        at: datetime,
        colour: Colour,
        source: Source,
        rows: list[int],
        text: str = "hello",
        kind: Literal["fast", "slow"] = "fast",
        maybe: int | None = None,
        opens: clock = clock(8, 30),
    ):
        """Takes everything.

        Args:
            number: How many there are.
        """
        for name, value in sorted(locals().items()):
            print(f"{name}={value!r}")
        print("configuration", current_run().configuration)

    @flow
    def plain():
        print("configuration", current_run().configuration)

    @flow
    def needs(name: str):
        print("hello", name)

    connect()
    print("serving", flush=True)
    listen(concurrency=4)
'''
SAID = {
    "number=7",
    "ratio=0.5",
    "flag=False",
    "day=datetime.date(2024, 2, 29)",
    "at=datetime.datetime(2024, 2, 29, 9, 30, tzinfo=datetime.timezone.utc)",
    "colour=<Colour.BLUE: 'blue'>",
    "source=Source(name='lake', since=datetime.date(2023, 1, 1), limit=10)",
    "rows=[1, 2]",
    "text='hello'",
    "kind='fast'",
    "maybe=None",
    "opens=datetime.time(8, 30)",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    """A backend, and a client that serves the flows above; each test runs what it looks at."""
    folder = tmp_path_factory.mktemp("form")
    with BackendProcess(folder / "backend") as backend:
        script = Script(
            folder / "flows.py", FLOWS, backend_url=backend.url, home=str(folder / "home")
        )
        with script.started() as process:
            await_line(process, "serving")
            poll_until(lambda: len(backend.get("/api/engine/flows")) == 3)
            yield backend


def asked(page: Page, flow: str) -> Locator:
    """The dialog that asks with what to run a flow."""
    card = page.get_by_role("article", name=flow, exact=True)
    card.get_by_role("button", name=re.compile(rf"^Run {flow}( with …)?$")).last.click()
    dialog = page.get_by_role("dialog", name=f"Run {flow}")
    expect(dialog).to_be_visible()
    return dialog


def give(dialog: Locator, *leave: str) -> None:
    """Fill in what is required, but for some."""
    typed = {"number": "7", "ratio": "0.5", "day": "2024-02-29", "at": "2024-02-29T10:30:00"}
    for name, value in typed.items():
        if name not in leave:
            dialog.get_by_label(re.compile(f"^{name}( required)?$")).fill(value)
    dialog.get_by_label(re.compile("^flag")).select_option("false")
    dialog.get_by_label(re.compile("^colour")).select_option("blue")
    source = dialog.get_by_role("group", name=re.compile("^source"))
    source.get_by_label(re.compile("^name")).fill("lake")
    source.get_by_label(re.compile("^since")).fill("2023-01-01")
    rows = dialog.get_by_role("group", name=re.compile("^rows"))
    for number in (1, 2):
        rows.get_by_role("button", name="+ add to rows").click()
        rows.get_by_label(f"rows {number}", exact=True).fill(str(number))


def started(page: Page, dialog: Locator) -> str:
    """The id of the run that begins when the dialog is sent off."""
    dialog.get_by_role("button", name="Run", exact=True).click()
    expect(page).to_have_url(re.compile(r"/runs/[0-9a-f-]{36}$"))
    return page.url.rsplit("/", 1)[1]


def said(backend: BackendProcess, run: str) -> set[str]:
    """What the flow said of its values."""

    def over() -> Any:
        found = backend.get(f"/api/runs/{run}")
        return found if found["state"] in ("COMPLETED", "FAILED") else None

    found = poll_until(over)
    assert found["state"] == "COMPLETED", found["error"]
    return set(backend.lines(run))


def test_what_is_typed_is_what_the_flow_gets(served: BackendProcess, look: Look) -> None:
    page = look(served.url).open("/")
    dialog = asked(page, "everything")
    expect(dialog).to_contain_text("How many there are.")
    expect(dialog.get_by_label("text", exact=True)).to_have_value("hello")
    give(dialog)
    run = started(page, dialog)
    assert said(served, run) >= SAID | {"configuration development"}
    # and the page says it, too
    expect(page.get_by_role("main")).to_contain_text("rows=[1, 2]")
    about = page.get_by_role("region", name="About this run")
    expect(about).to_contain_text('source = {"name":"lake","since":"2023-01-01"')


def test_what_is_missing_or_wrong_is_said_at_its_field(served: BackendProcess, look: Look) -> None:
    page = look(served.url).open("/")
    dialog = asked(page, "everything")
    give(dialog, "day")
    number = dialog.get_by_label(re.compile("^number"))
    number.fill("7.5")
    dialog.get_by_role("button", name="Run", exact=True).click()
    expect(number).to_have_attribute("aria-invalid", "true")
    expect(number).to_be_focused()
    expect(number).to_have_accessible_description(re.compile("not a whole number"))
    day = dialog.get_by_label(re.compile("^day"))
    expect(day).to_have_accessible_description(re.compile("is required"))
    number.fill("7")
    day.fill("2024-02-29")
    assert said(served, started(page, dialog)) >= SAID


def test_what_the_backend_refuses_is_said_at_its_field(served: BackendProcess, look: Look) -> None:
    view = look(served.url)
    view.expect("400|422")
    page = view.open("/")
    dialog = asked(page, "everything")
    give(dialog)
    opens = dialog.get_by_label("opens", exact=True)
    opens.fill("25:99")
    dialog.get_by_role("button", name="Run", exact=True).click()
    expect(opens).to_have_attribute("aria-invalid", "true")
    expect(opens).to_be_focused()
    expect(opens).to_have_accessible_description(re.compile("✗ .*25:99"))
    opens.fill("09:15")
    wanted = SAID - {"opens=datetime.time(8, 30)"} | {"opens=datetime.time(9, 15)"}
    assert said(served, started(page, dialog)) >= wanted


def test_the_same_as_json_and_back(served: BackendProcess, look: Look) -> None:
    view = look(served.url)
    view.expect("400|422")
    page = view.open("/")
    dialog = asked(page, "everything")
    give(dialog)
    dialog.get_by_role("button", name="as JSON").click()
    text = dialog.get_by_label("parameters as JSON")
    given = json.loads(text.input_value())
    assert given["rows"] == [1, 2] and given["source"]["name"] == "lake"
    text.fill("{")
    dialog.get_by_role("button", name="Run", exact=True).click()
    expect(dialog).to_contain_text("is not JSON")
    text.fill(json.dumps({**given, "number": "seven"}))
    dialog.get_by_role("button", name="Run", exact=True).click()
    expect(dialog).to_contain_text("parameters.number")
    text.fill(json.dumps({**given, "number": 8, "maybe": 3}))
    dialog.get_by_role("button", name="as a form").click()
    expect(dialog.get_by_label(re.compile("^number"))).to_have_value("8")
    expect(dialog.get_by_label("maybe", exact=True)).to_have_value("3")
    dialog.get_by_role("button", name="as JSON").click()
    assert json.loads(text.input_value())["maybe"] == 3
    assert said(served, started(page, dialog)) >= (SAID - {"number=7", "maybe=None"}) | {
        "number=8",
        "maybe=3",
    }


@pytest.mark.parametrize("name", ["development", "debug", "release", "night <b>&\"' 100%"])
def test_a_configuration_is_chosen_or_named(served: BackendProcess, look: Look, name: str) -> None:
    page = look(served.url).open("/")
    dialog = asked(page, "plain")
    expect(dialog).to_contain_text("This flow takes none.")
    choice = dialog.get_by_label("Configuration", exact=True)
    if name in ("development", "debug", "release"):
        choice.select_option(name)
    else:
        choice.select_option("other …")
        dialog.get_by_label("name of the configuration").fill(name)
    run = started(page, dialog)
    assert f"configuration {name}" in said(served, run)
    expect(page.get_by_role("region", name="About this run")).to_contain_text(name)


def test_a_configuration_without_a_name_is_not_sent(served: BackendProcess, look: Look) -> None:
    page = look(served.url).open("/")
    dialog = asked(page, "plain")
    dialog.get_by_label("Configuration", exact=True).select_option("other …")
    named = dialog.get_by_label("name of the configuration")
    dialog.get_by_role("button", name="Run", exact=True).click()
    expect(named).to_have_attribute("aria-invalid", "true")
    expect(named).to_be_focused()
    named.fill("staging")
    assert "configuration staging" in said(served, started(page, dialog))


def test_run_again_with_begins_with_the_values_of_that_run(
    served: BackendProcess, look: Look
) -> None:
    flows = {one["name"]: one["id"] for one in served.get("/api/engine/flows")}
    values = {
        "number": 41,
        "ratio": 2.5,
        "flag": True,
        "day": "2024-02-29",
        "at": "2024-02-29T09:30:00Z",
        "colour": "red",
        "source": {"name": "sea", "since": "2022-02-02", "limit": 3},
        "rows": [5],
        "text": "",
        "maybe": 0,
    }
    body = {"configuration": "release", "parameters": values}
    status, answer = served.request("POST", f"/api/engine/trigger/{flows['everything']}", body)
    assert status == 200, answer
    before = said(served, answer["runId"])
    page = look(served.url).open(f"/runs/{answer['runId']}")
    page.get_by_role("link", name="Run again with …").click()
    dialog = page.get_by_role("dialog", name="Run everything")
    expect(dialog).to_contain_text(f"With the values of run {answer['runId'][:8]}.")
    expect(dialog.get_by_label("Configuration", exact=True)).to_have_value("release")
    expect(dialog.get_by_label(re.compile("^number"))).to_have_value("41")
    expect(dialog.get_by_label(re.compile("^at "))).to_have_value(re.compile("2024-02-29T10:30"))
    expect(dialog.get_by_label("rows 1", exact=True)).to_have_value("5")
    expect(dialog.get_by_label("maybe", exact=True)).to_have_value("0")
    dialog.get_by_label(re.compile("^number")).fill("42")
    run = started(page, dialog)
    assert run != answer["runId"]
    assert said(served, run) == before - {"number=41"} | {"number=42"}


def test_all_are_run_and_it_is_said_which_could_not(served: BackendProcess, look: Look) -> None:
    view = look(served.url)
    view.expect("400|422")
    page = view.open("/")
    known = {one["id"] for one in served.runs()}
    page.get_by_role("button", name="Run all …").click()
    dialog = page.get_by_role("dialog", name="Run 3 flows?")
    dialog.get_by_label("Configuration", exact=True).select_option("debug")
    dialog.get_by_role("button", name="Run all").click()
    expect(dialog.get_by_role("status")).to_have_text("1 of 3 done.")
    said_wrong = dialog.get_by_role("alert")
    expect(said_wrong).to_contain_text("2 refusals:")
    expect(said_wrong).to_contain_text("needs: ")
    dialog.get_by_role("button", name="Close", exact=True).last.click()
    expect(dialog).to_have_count(0)
    (begun,) = [one for one in served.runs() if one["id"] not in known]
    assert "configuration debug" in said(served, begun["id"])
