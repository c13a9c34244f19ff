"""A browser, and backends for it to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.workshop import Workshop, workshop
from tests.support.backend import BackendProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.view import View

UI = Path(__file__).parents[2] / "perfect" / "server" / "ui"


# Not for the whole session: as long as it is there, playwright's event loop is the running one of this thread, and
# tests elsewhere that run a loop of their own would fail.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this folder."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from tests.browser.view import CHROMIUM, chromium

    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM} (apt-get install chromium)")
    if not (UI / "dist" / "index.html").exists():
        pytest.skip("the dashboard is not built (npm run build)")
    with api.sync_playwright() as playwright, chromium(playwright) as started:
        yield started


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., BackendProcess]]:
    """Start a backend: (*options, **settings). It outlives the views of it."""
    with ExitStack() as started:

        def backend(*options: str, **settings: Any) -> BackendProcess:
            return started.enter_context(BackendProcess(tmp_path / "backend", *options, **settings))

        yield backend


@pytest.fixture
def look(browser: Browser, start: object) -> Iterator[Callable[..., View]]:
    """Open a view of a backend's dashboard: (url, **options of the profile); it is checked at the end."""
    from tests.browser.view import View

    views: list[View] = []

    def opened(url: str, **options: Any) -> View:
        views.append(View(browser, url, **options))
        return views[-1]

    yield opened
    for view in views:
        view.context.close()
    for view in views:
        view.check()


@pytest.fixture
def shop(start: Callable[..., BackendProcess], tmp_path: Path) -> Iterator[Workshop]:
    """A backend with a client that serves a few flows."""
    with workshop(start(), tmp_path) as started:
        yield started


@pytest.fixture
def view(shop: Workshop, look: Callable[..., View]) -> View:
    """A view of that backend."""
    return look(shop.backend.url)
