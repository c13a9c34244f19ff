"""Pictures of every page, wide and narrow, dark and light: ``python -m tests.browser.screenshots [folder]``.

They are put into ``screenshots/``, which git ignores, unless another folder is given.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.view import View, chromium, settle
from tests.browser.workshop import workshop
from tests.support.backend import BackendProcess

SIZES = ((1440, 900), (320, 640))
SCHEMES = ("dark", "light")


def take(browser: Browser, url: str, pages: dict[str, str], into: Path) -> None:
    """Pictures of some pages.

    Args:
        browser: that shows them.
        url: of the backend.
        pages: the address of each by its name.
        into: the folder.
    """
    for scheme in SCHEMES:
        for width, height in SIZES:
            size = {"width": width, "height": height}
            view = View(browser, url, viewport=size, color_scheme=scheme, reduced_motion="reduce")
            for name, path in pages.items():
                page = view.open(path)
                settle(page)
                page.wait_for_timeout(300)  # what is drawn after its data came
                file = into / f"{re.sub(r'[^a-z]+', '-', name)}-{width}-{scheme}.png"
                page.screenshot(path=file, full_page=True)
                print(file)
            view.context.close()


def main(folder: str = "screenshots") -> int:
    """Take all of them.

    Args:
        folder: where they are put.
    """
    into = Path(folder)
    into.mkdir(parents=True, exist_ok=True)
    with (
        sync_playwright() as playwright,
        chromium(playwright) as browser,
        tempfile.TemporaryDirectory() as place,
    ):
        with BackendProcess(Path(place, "empty")) as empty:
            pages = {f"{name} empty": f"/{name}" for name in ("history", "schedules", "clients")}
            take(browser, empty.url, {"library empty": "/", **pages, "api": "/docs"}, into)
        with BackendProcess(Path(place, "closed"), token="the-full-token") as closed:
            take(browser, closed.url, {"login": "/"}, into)
        with BackendProcess(Path(place, "full")) as full, workshop(full, Path(place)) as shop:
            take(browser, full.url, shop.fill(), into)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
