"""The benchmark of the dashboard runs, at a small size; how fast is printed, never asserted."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Browser  # noqa: E402

from tests.benchmarks import page  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.e2e]


@pytest.mark.parametrize("part", page.PARTS)
def test_every_budget_has_a_figure(
    browser: Browser, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {one.name: one for one in page.measure_all(browser, page.SMALL, part)}
    assert figures
    with capsys.disabled():
        print("".join(f"\n    {page.row(one)}" for one in figures.values()))
    if part == "first":
        # this one does not depend on the machine
        script = figures["script of the first load, as sent (gzip)"]
        assert script.budget is not None and 0 < script.value <= script.budget
