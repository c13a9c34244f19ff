"""The history is filtered, and its address says by what."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Page, expect  # noqa: E402

from tests.browser.past import BEGIN, HOUR, Past  # noqa: E402
from tests.browser.view import View, rows, settle  # noqa: E402
from tests.support.backend import BackendProcess  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

Look = Callable[..., View]
ODD = 'a/b?c=d&e #1 "100%" %2541 <b>'
PAGE = 50


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BackendProcess, list[str]]]:
    """A backend with 91 runs, which the tests only look at, and the ids of five of them."""
    with BackendProcess(tmp_path_factory.mktemp("past") / "backend") as backend:
        night, lab = Past(backend, "night-shift"), Past(backend, "lab")
        data = {"team": "data", "env": "prod"}
        night.tell("load cities", ["COMPLETED"] * 70, tags=data)
        later = BEGIN + 100 * HOUR
        failed = ["FAILED"] * 12 + ["CANCELLED"] * 3
        night.tell("send letters", failed, tags={"team": "ops"}, begin=later)
        later += 100 * HOUR
        ids = lab.tell("load cities", ["COMPLETED"] * 5, tags={"team": "data"}, begin=later)
        lab.tell(ODD, ["FAILED"], tags={"odd:name": "a,b"}, begin=later + 100 * HOUR)
        yield backend, ids


def in_address(page: Page) -> dict[str, str]:
    """What the address asks for."""
    return {name: one for name, (one,) in parse_qs(urlsplit(page.url).query).items()}


@pytest.mark.parametrize(
    ("label", "typed", "asked", "number"),
    [
        ("Flow", "send letters", {"flow": "send letters"}, 15),
        ("Flow", ODD, {"flow": ODD}, 1),
        ("Search", "letters", {"q": "letters"}, 15),
        ("Search", ODD[:19], {"q": ODD[:19]}, 1),
        ("Tag", "team:ops", {"tag": "team:ops"}, 15),
        ("Tag", "env", {"tag": "env"}, PAGE),
        ("Client", "lab", {"client": "lab"}, 6),
        # by the viewer's clock, an hour before UTC
        ("Started from", "2026-02-10T11:40", {"from": "2026-02-10T10:40:00Z"}, 6),
        ("Started before", "2026-02-02T06:40", {"to": "2026-02-02T05:40:00Z"}, 3),
        ("Flow", "there is none", {"flow": "there is none"}, 0),
    ],
)
def test_a_filter_is_in_the_address_and_the_address_gives_it_back(
    past: tuple[BackendProcess, list[str]],
    look: Look,
    label: str,
    typed: str,
    asked: dict[str, str],
    number: int,
) -> None:
    view = look(past[0].url)
    page = view.open("/history")
    expect(rows(page)).to_have_count(PAGE)
    field = page.get_by_label(label, exact=True)
    field.fill(typed)
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(rows(page)).to_have_count(number)
    assert in_address(page) == asked
    if number == 0:
        expect(page.get_by_role("main")).to_contain_text("No run matches these filters.")
    page.go_back()
    expect(rows(page)).to_have_count(PAGE)
    expect(field).to_have_value("")
    page.go_forward()
    expect(rows(page)).to_have_count(number)
    expect(field).to_have_value(typed)
    other = look(past[0].url)  # somebody who was sent the address
    fresh = other.open(page.url.removeprefix(past[0].url))
    settle(fresh)
    expect(rows(fresh)).to_have_count(number)
    expect(fresh.get_by_label(label, exact=True)).to_have_value(typed)
    fresh.get_by_role("button", name="Clear").click()
    expect(rows(fresh)).to_have_count(PAGE)
    expect(fresh).to_have_url(f"{past[0].url}/history")


def test_a_run_is_found_by_the_beginning_of_its_id(
    past: tuple[BackendProcess, list[str]], look: Look
) -> None:
    backend, ids = past
    page = look(backend.url).open("/history")
    page.get_by_label("Search", exact=True).fill(ids[2][:13])
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(1)
    page.get_by_role("link", name="load cities").click()
    expect(page).to_have_url(f"{backend.url}/runs/{ids[2]}")


def test_states_come_and_go_by_their_buttons(
    past: tuple[BackendProcess, list[str]], look: Look
) -> None:
    page = look(past[0].url).open("/history")
    states = page.get_by_role("group", name="states")
    failed = states.get_by_role("button", name="FAILED")
    cancelled = states.get_by_role("button", name="CANCELLED")
    failed.click()
    expect(rows(page)).to_have_count(13)
    cancelled.click()
    expect(rows(page)).to_have_count(16)
    assert in_address(page) == {"state": "FAILED,CANCELLED"}
    page.reload()
    expect(failed).to_have_attribute("aria-pressed", "true")
    expect(rows(page)).to_have_count(16)
    failed.click()
    expect(rows(page)).to_have_count(3)
    expect(failed).to_have_attribute("aria-pressed", "false")
    page.go_back()
    expect(rows(page)).to_have_count(16)
    expect(failed).to_have_attribute("aria-pressed", "true")


def test_filters_go_together_and_what_is_typed_stays(
    past: tuple[BackendProcess, list[str]], look: Look
) -> None:
    page = look(past[0].url).open("/history")
    page.get_by_label("Client", exact=True).fill("night-shift")
    page.get_by_label("Tag", exact=True).fill("team:ops")
    # a state is chosen before what is typed was sent off
    page.get_by_role("group", name="states").get_by_role("button", name="CANCELLED").click()
    expect(rows(page)).to_have_count(3)
    wanted = {"client": "night-shift", "tag": "team:ops", "state": "CANCELLED"}
    assert in_address(page) == wanted
    page.get_by_label("Started before", exact=True).fill("2026-02-06T20:00")
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(1)
    assert in_address(page) == {**wanted, "to": "2026-02-06T19:00:00Z"}


def test_pages_keep_the_filters(past: tuple[BackendProcess, list[str]], look: Look) -> None:
    page = look(past[0].url).open("/history?flow=load+cities")
    turn = page.get_by_role("navigation", name="pages of the history")
    expect(rows(page)).to_have_count(PAGE)
    newest = rows(page).all_inner_texts()
    turn.get_by_role("link", name="Older").click()
    expect(rows(page)).to_have_count(25)
    expect(turn).to_contain_text("These are the oldest.")
    assert in_address(page)["flow"] == "load cities"
    assert not set(newest) & set(rows(page).all_inner_texts())
    address = page.url
    turn.get_by_role("link", name="Newer").click()
    expect(rows(page)).to_have_count(PAGE)
    assert rows(page).all_inner_texts() == newest
    assert in_address(page) == {"flow": "load cities"}
    page.go_back()
    expect(rows(page)).to_have_count(25)
    # opened fresh, nothing is known of the pages before but that there are newer ones
    fresh = look(past[0].url).open(address.removeprefix(past[0].url))
    expect(rows(fresh)).to_have_count(25)
    fresh.get_by_role("link", name="Newest").click()
    expect(rows(fresh)).to_have_count(PAGE)
    assert in_address(fresh) == {"flow": "load cities"}
    # another filter begins at the newest
    page.get_by_role("group", name="states").get_by_role("button", name="COMPLETED").click()
    expect(rows(page)).to_have_count(PAGE)
    assert in_address(page) == {"flow": "load cities", "state": "COMPLETED"}


@pytest.mark.parametrize(
    "query",
    [
        "state=NONSENSE",
        "cursor=x",
        "from=yesterday",
        "state=FAILED&cursor=99999999999999999999-1",
    ],
)
def test_what_the_backend_refuses_is_said_with_a_way_out(
    past: tuple[BackendProcess, list[str]], look: Look, query: str
) -> None:
    view = look(past[0].url)
    view.expect("400|422")
    page = view.open(f"/history?{query}")
    expect(page.get_by_role("alert")).not_to_be_empty()
    page.get_by_role("main").get_by_role("link", name="Show the newest").click()
    expect(rows(page)).to_have_count(PAGE)
    expect(page).to_have_url(f"{past[0].url}/history")


@pytest.mark.parametrize(
    "query",
    ["evil=<script>alert(1)</script>", "limit=100000", "state=&flow=&q=", "tag=&&&=%", "%"],
)
def test_what_the_page_does_not_know_is_left_out(
    past: tuple[BackendProcess, list[str]], look: Look, query: str
) -> None:
    page = look(past[0].url).open(f"/history?{query}")
    expect(rows(page)).to_have_count(PAGE)


def test_an_unknown_state_goes_when_one_is_chosen(
    past: tuple[BackendProcess, list[str]], look: Look
) -> None:
    view = look(past[0].url)
    view.expect("400|422")
    page = view.open("/history?state=NONSENSE")
    expect(page.get_by_role("alert")).not_to_be_empty()
    page.get_by_role("group", name="states").get_by_role("button", name="CANCELLED").click()
    expect(rows(page)).to_have_count(3)
    expect(page).to_have_url(re.compile(r"state=CANCELLED$"))


def test_a_time_without_a_zone_is_shown_as_the_backend_takes_it(
    past: tuple[BackendProcess, list[str]], look: Look
) -> None:
    page = look(past[0].url).open("/history?from=2026-02-10T10:40:00&to=2027-01-01")
    expect(rows(page)).to_have_count(6)
    expect(page.get_by_label("Started from", exact=True)).to_have_value("2026-02-10T11:40")
    expect(page.get_by_label("Started before", exact=True)).to_have_value("2027-01-01T01:00")
