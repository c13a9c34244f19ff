"""What axe finds on the pages, wide and narrow, dark and light."""

from __future__ import annotations

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


@pytest.mark.timeout(300)
def test_axe_finds_nothing_serious_on_any_page(
    shop: Workshop, look: Callable[..., View], axe: str
) -> None:
    found, pages = [], shop.fill()
    for scheme in ("dark", "light"):
        view = look(shop.backend.url, color_scheme=scheme, reduced_motion="reduce")
        view.expect("404")  # of the run that is unknown
        for what, path in pages.items():
            page = view.open(path)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            settle(page)
            for name, width in WIDTHS.items():
                page.set_viewport_size({"width": width, "height": 900})
                found += [f"{what}, {scheme}, {name}: {one}" for one in findings(page, axe)]
                wide = page.evaluate("document.documentElement.scrollWidth")
                if wide > width:
                    found.append(f"{what}, {scheme}, {name}: it is {wide} px wide")
    assert not found, "\n".join(found)
