"""A page in a real browser, and what it did that no page may."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Locator, Page, Playwright, expect

CHROMIUM = Path("/usr/bin/chromium")  # Debian's
_QUIET = [
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


@contextmanager
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Debian's browser, without a window.

    Args:
        playwright: that drives it.
    """
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_QUIET)
    try:
        yield browser
    finally:
        browser.close()


class View:
    """A page with a profile of its own.

    Args:
        browser: that shows it.
        url: of the backend, with its base path.
        options: of the profile, as playwright calls them.
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.wrong: list[str] = []
        self._expected: list[str] = []
        given: dict[str, Any] = {"locale": "en-GB", "timezone_id": "Europe/Berlin", **options}
        self.context = browser.new_context(**given)
        self.context.set_default_timeout(15_000)
        self.context.on("request", lambda request: self._check_address(request.url))
        self.context.on("weberror", lambda error: self.wrong.append(f"error: {error.error}"))
        self.context.on("console", lambda said: self._check_console(said.type, said.text))
        self.page: Page = self.context.new_page()

    def open(self, path: str) -> Page:
        """Go to an address below the base path."""
        self.page.goto(self.url + path)
        return self.page

    def expect(self, pattern: str) -> None:
        """Don't take it for an error when the console says something like this."""
        self._expected.append(pattern)

    def check(self) -> None:
        """Nothing went wrong.

        Raises:
            AssertionError: an error in a script or on the console, or a request to another host.
        """
        wrong = [
            one for one in self.wrong if not any(re.search(known, one) for known in self._expected)
        ]
        assert not wrong, wrong

    def _check_address(self, url: str) -> None:
        ours = urlsplit(self.url)
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != ours.netloc:
            self.wrong.append(f"request to {url}")
        elif parts.scheme == "http" and not parts.path.startswith(ours.path):
            self.wrong.append(f"request beside the base path: {url}")

    def _check_console(self, kind: str, text: str) -> None:
        if kind == "error":
            self.wrong.append(f"console: {text}")


def settle(page: Page) -> None:
    """Wait until a page has what it asked for.

    Args:
        page: of the dashboard.
    """
    expect(page.get_by_role("main")).not_to_be_empty()
    expect(page.get_by_text("Loading …")).to_have_count(0)


def rows(page: Page) -> Locator:
    """The runs that the history shows.

    Args:
        page: of the history.
    """
    return page.get_by_role("table", name="runs", exact=True).locator("tbody tr")
