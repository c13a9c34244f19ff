"""What axe finds on the pages and in their dialogs, wide and narrow, dark and light."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Page, expect  # noqa: E402

from tests.browser.conftest import UI  # noqa: E402
from tests.browser.view import View, settle  # noqa: E402
from tests.browser.workshop import Workshop  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

AXE = UI / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = ("serious", "critical")
WIDTHS = {"wide": 1440, "narrow": 320}


@pytest.fixture(scope="module")
def axe() -> str:
    """The script."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed (npm ci)")
    return AXE.read_text()


def findings(page: Page, axe: str) -> list[str]:
    """What axe finds serious: the rule and the first elements."""
    page.evaluate(axe)
    found: dict[str, Any] = page.evaluate("axe.run()")
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
    ]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing_serious_on_any_page(
    shop: Workshop, look: Callable[..., View], axe: str, scheme: str
) -> None:
    found: list[str] = []
    view = look(shop.backend.url, color_scheme=scheme, reduced_motion="reduce")
    view.expect("404")  # of the run that is unknown
    for what, path in shop.fill().items():
        page = view.open(path)
        settle(page)
        for name, width in WIDTHS.items():
            page.set_viewport_size({"width": width, "height": 900})
            found += [f"{what}, {name}: {one}" for one in findings(page, axe)]
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                found.append(f"{what}, {name}: it is {wide} px wide")
    assert not found, "\n".join(found)


def _help(page: Page) -> None:
    page.keyboard.press("?")


def _run_with_parameters(page: Page) -> None:
    page.get_by_role("article", name="greeting").get_by_role("button", name="Run greeting").click()


def _run_all(page: Page) -> None:
    page.get_by_role("button", name="Run all …").click()


def _delete(page: Page) -> None:
    page.get_by_label("all on this page").check()
    page.get_by_role("region", name="chosen runs").get_by_role("button", name="Delete").click()


DIALOGS: dict[str, tuple[str, Callable[[Page], None]]] = {
    "shortcuts": ("/", _help),
    "run with parameters": ("/", _run_with_parameters),
    "run all": ("/", _run_all),
    "delete": ("/history", _delete),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing_serious_in_any_dialog(
    shop: Workshop, look: Callable[..., View], axe: str, scheme: str
) -> None:
    shop.until(shop.run("broken"), "FAILED")
    found: list[str] = []
    view = look(shop.backend.url, color_scheme=scheme, reduced_motion="reduce")
    for what, (path, opened) in DIALOGS.items():
        for name, width in WIDTHS.items():
            view.page.set_viewport_size({"width": width, "height": 640})
            page = view.open(path)
            settle(page)
            opened(page)
            dialog = page.get_by_role("dialog")
            expect(dialog).to_be_visible()
            found += [f"{what}, {name}: {one}" for one in findings(page, axe)]
            box = dialog.bounding_box()
            assert box is not None
            if box["x"] < 0 or box["x"] + box["width"] > width or box["height"] > 640:
                found.append(f"{what}, {name}: it is at {box}")
            page.keyboard.press("Escape")
            expect(dialog).to_have_count(0)
    assert not found, "\n".join(found)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing_serious_in_what_unfolds(
    shop: Workshop, look: Callable[..., View], axe: str, scheme: str
) -> None:
    drawn, broken = shop.run("drawn up"), shop.run("broken")
    for run in (drawn, broken):
        shop.until(run, "COMPLETED", "FAILED")
    found: list[str] = []
    view = look(shop.backend.url, color_scheme=scheme, reduced_motion="reduce")
    for name, width in WIDTHS.items():
        view.page.set_viewport_size({"width": width, "height": 900})
        page = view.open(f"/runs/{drawn}")
        page.get_by_role("button", name="graph", exact=True).click()
        page.get_by_role("button", name=re.compile("^add_up: COMPLETED, after ")).click()
        expect(page.get_by_role("heading", name="add_up")).to_be_visible()
        found += [f"graph, {name}: {one}" for one in findings(page, axe)]
        page = view.open(f"/runs/{broken}?task=0")
        page.get_by_text("Traceback (").first.click()
        expect(page.get_by_role("region", name="result table")).to_be_visible()
        found += [f"task, {name}: {one}" for one in findings(page, axe)]
        panel = page.locator(".timeline").bounding_box()
        assert panel is not None
        for tick in page.locator(".timeline-axis span").all():
            box = tick.bounding_box()
            assert box is not None
            if box["x"] + box["width"] > panel["x"] + panel["width"]:
                found.append(f"task, {name}: the tick {tick.inner_text()} stands out")
    assert not found, "\n".join(found)


def test_axe_would_find_something(shop: Workshop, view: View, axe: str) -> None:
    page = view.open("/")
    settle(page)
    page.evaluate("document.querySelector('main').append(document.createElement('input'))")
    (found,) = findings(page, axe)
    assert found.startswith("label: ")
