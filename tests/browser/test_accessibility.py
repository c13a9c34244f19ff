"""What axe finds on the pages, wide and narrow, dark and light."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Page  # noqa: E402

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


def test_axe_would_find_something(shop: Workshop, view: View, axe: str) -> None:
    page = view.open("/")
    settle(page)
    page.evaluate("document.querySelector('main').append(document.createElement('input'))")
    (found,) = findings(page, axe)
    assert found.startswith("label: ")
