"""The dashboard: one page for every address of its own, and the files that it loads."""

from __future__ import annotations

import gzip
import html
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from perfect.server import pages
from perfect.server.routes.deps import TheBackend

router = APIRouter(include_in_schema=False)

_BUILT = Path(pages.__file__).parent.parent / "ui" / "dist"
# their names have a hash of their content
_FOR_EVER = {"Cache-Control": "max-age=31536000, immutable"}
# those of one page, whose script looks at the address
PAGES = (
    "/",
    "/history",
    "/schedules",
    "/statistics",
    "/clients",
    "/runs/{run_id}",
    "/flows/{flow:path}",
)


@dataclass(frozen=True, slots=True)
class _File:
    plain: bytes
    packed: bytes
    media_type: str


@cache
def _files() -> Mapping[str, _File]:
    """Every built file by its path: what is not in here can't be asked for, however an address is written."""
    found = {}
    for path in _BUILT.rglob("*"):
        if path.is_file() and path.name != ".source":
            media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            content = path.read_bytes()
            packed = gzip.compress(content, 9, mtime=0)
            found[path.relative_to(_BUILT).as_posix()] = _File(content, packed, media_type)
    return found


def _page(backend: TheBackend) -> Response:
    built = _files().get("index.html")
    base = backend.settings.base_path
    if built is None:
        return pages.render("unbuilt.html", base=base)
    place = f'<base href="{html.escape(base)}/">'
    return HTMLResponse(built.plain.decode().replace("<head>", f"<head>{place}", 1))


def lost(request: Request) -> Response | None:
    """For an address that nothing is at: the dashboard, which says so, if it is a person's browser that asks."""
    inside = "/api/" in request.url.path or "/assets/" in request.url.path
    if request.method != "GET" or inside or "text/html" not in request.headers.get("accept", ""):
        return None
    page = _page(request.app.state.backend)
    page.status_code = 404
    return page


for _path in PAGES:
    router.add_api_route(_path, _page, methods=["GET"])


@router.get("/assets/{name}")
def asset(name: str, request: Request) -> Response:
    return _answer(f"assets/{name}", request, _FOR_EVER)


@router.get("/icon.svg")
def icon(request: Request) -> Response:
    return _answer("icon.svg", request, {"Cache-Control": "max-age=3600"})


def _answer(path: str, request: Request, headers: Mapping[str, str]) -> Response:
    file = _files().get(path)
    if file is None:
        raise HTTPException(404, "there is no such file")
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            file.packed,
            media_type=file.media_type,
            headers={**headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"},
        )
    return Response(
        file.plain, media_type=file.media_type, headers={**headers, "Vary": "Accept-Encoding"}
    )


@router.get("/style.css")
def style_sheet() -> Response:
    return Response(pages.style(), media_type="text/css", headers={"Cache-Control": "max-age=3600"})
