"""The files of the dashboard: which address gives which, and what stands on the answers."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perfect.server.routes import ui
from tests.server.conftest import Running
from tests.server.peers import Answer

INDEX = """<!doctype html>
<html lang="en">
  <head>
    <script type="module" crossorigin src="./assets/index-1a2b.js"></script>
  </head>
</html>
"""
SCRIPT = "console.log('☃');\n" * 100
OF_THE_DASHBOARD = ("/", "/history", "/schedules", "/statistics", "/clients", "/runs/x", "/flows/x")
OUTSIDE = ("..", "../..", "..%2f..", "%2e%2e", "....//", "..%5c..", "%252e%252e")


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A dashboard of a few lines."""
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "icon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / ".source").write_text("the hash")
    (folder / "assets" / "index-1a2b.js").write_text(SCRIPT)
    (folder / "assets" / "index-3c4d.css").write_text("main {}")
    (tmp_path / "secret.js").write_text("secret")
    monkeypatch.setattr(ui, "_BUILT", folder)
    ui._files.cache_clear()
    yield folder
    ui._files.cache_clear()


def _sources(answer: Answer) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]*)"', answer.text)


@pytest.mark.parametrize("path", OF_THE_DASHBOARD)
def test_every_address_of_the_dashboard_gives_its_page(
    launch: Callable[..., Running], built: Path, path: str
) -> None:
    page = launch().peer().get(f"{path}?state=FAILED")
    assert page.status == 200 and _sources(page) == ["/", "./assets/index-1a2b.js"]
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    # it names the script: an old one would name one that is no more
    assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ("/nowhere", "/history/older", "/run/x"))
def test_a_browser_at_an_address_that_nothing_is_at_is_shown_the_page(
    launch: Callable[..., Running], built: Path, path: str
) -> None:
    peer = launch().peer()
    peer.headers["Accept"] = "text/html,application/xhtml+xml,*/*;q=0.8"
    page = peer.get(path)
    assert page.status == 404 and _sources(page) == ["/", "./assets/index-1a2b.js"]
    assert page.headers["cache-control"] == "no-store"
    assert "script-src" in page.headers["content-security-policy"]
    for other in (f"/api{path}", f"/assets{path}"):
        assert "index-1a2b" not in peer.get(other).text
    del peer.headers["Accept"]
    assert peer.get(path).refused(404)["error"] == "there is nothing at this address"


def test_scripts_come_from_here_only(launch: Callable[..., Running], built: Path) -> None:
    page = launch().peer().get("/")
    policy = {
        name: values
        for name, *values in (
            part.split() for part in page.headers["content-security-policy"].split(";")
        )
    }
    assert policy["default-src"] == policy["frame-ancestors"] == ["'none'"]
    for kind in ("script-src", "style-src", "connect-src", "form-action", "base-uri"):
        assert policy[kind] == ["'self'"]
    assert policy["img-src"] == ["'self'", "data:"]
    assert page.headers["x-content-type-options"] == "nosniff"


def test_files_are_kept_by_browsers_and_packed_for_those_who_can(
    launch: Callable[..., Running], built: Path
) -> None:
    peer = launch().peer()
    plain = peer.get("/assets/index-1a2b.js")
    packed = peer.get("/assets/index-1a2b.js", headers={"Accept-Encoding": "br, gzip"})
    assert plain.text == gzip.decompress(packed.body).decode() == SCRIPT
    assert packed.headers["content-encoding"] == "gzip" and len(packed.body) < 200
    assert "content-encoding" not in plain.headers
    for answer in (plain, packed):
        assert answer.headers["cache-control"] == "max-age=31536000, immutable"
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["content-type"].startswith("text/javascript")
    style, icon = peer.get("/assets/index-3c4d.css"), peer.get("/icon.svg")
    assert style.headers["content-type"].startswith("text/css")
    assert icon.headers["content-type"].startswith("image/svg+xml")
    assert icon.headers["cache-control"] == "max-age=3600"


def test_head_says_what_get_would(launch: Callable[..., Running], built: Path) -> None:
    peer = launch().peer()
    for path in ("/", "/assets/index-1a2b.js", "/icon.svg", "/style.css"):
        get, head = peer.get(path), peer.send("HEAD", path)
        assert (get.status, head.status, head.body) == (200, 200, b"")
        for name in ("content-type", "content-length", "cache-control"):
            assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize("outside", OUTSIDE)
def test_nothing_else_is_given_out(
    launch: Callable[..., Running], built: Path, outside: str
) -> None:
    peer = launch().peer()
    for name in (
        f"/assets/{outside}/secret.js",
        f"/assets/{outside}%2fsecret.js",
        f"/assets/{outside}/index.html",
        f"/{outside}/secret.js",
        f"/assets/{outside}",
    ):
        peer.get(name).refused(404)
    for name in ("/.source", "/assets/", "/assets", "/assets/.source", "/index.html", "/nothing"):
        peer.get(name).refused(404)


@pytest.mark.parametrize("prefix", ["/tools/x", ""], ids=["kept by the proxy", "stripped"])
def test_below_a_base_path_the_page_says_where_it_is(
    launch: Callable[..., Running], built: Path, prefix: str
) -> None:
    peer = launch(base_path="/tools/x").peer()
    for path in OF_THE_DASHBOARD:
        # relative addresses count from <base>
        assert _sources(peer.get(prefix + path)) == ["/tools/x/", "./assets/index-1a2b.js"]
    assert peer.get(f"{prefix}/assets/index-1a2b.js").text == SCRIPT
    assert peer.get("/tools/x").status == 200


def test_what_is_not_built_says_how_to_build_it(
    launch: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "_BUILT", tmp_path / "nothing")
    ui._files.cache_clear()
    peer = launch(base_path="/x").peer("c")
    for path in OF_THE_DASHBOARD:
        page = peer.get(f"/x{path}")
        assert page.status == 200 and "npm run build" in page.text
        assert "PERFECT_SKIP_UI" in page.text and "<script" not in page.text
        assert all(one.startswith("/x/") or one == "data:," for one in _sources(page))
    peer.get("/x/assets/index-1a2b.js").refused(404)
    peer.get("/x/icon.svg").refused(404)
    assert peer.register("f")["name"] == "f"
    ui._files.cache_clear()


def test_where_there_is_a_token_the_page_is_the_form(
    launch: Callable[..., Running], built: Path
) -> None:
    peer = launch(token="the-full-token").peer()
    wanted = "/history?state=FAILED&amp;limit=5"
    page = peer.get(wanted.replace("&amp;", "&"), headers={"Accept": "text/html"})
    assert page.status == 401 and f'name="next" value="{wanted}"' in page.text
    for path in ("/assets/index-1a2b.js", "/icon.svg"):
        peer.get(path).refused(401)
    allowed = {"Authorization": "Bearer the-full-token"}
    assert _sources(peer.get("/history", headers=allowed)) == ["/", "./assets/index-1a2b.js"]
