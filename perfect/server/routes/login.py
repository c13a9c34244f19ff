"""Logging in: the token for a session cookie, so that a browser need not be told the token again and again."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from perfect.server.engine import access
from perfect.server.routes import body
from perfect.server.routes.access import LOGIN, LOGOUT, TOO_OFTEN, cookie, cookie_name, login_page
from perfect.server.routes.answers import failure
from perfect.server.routes.deps import TheBackend, TheCaller

router = APIRouter(include_in_schema=False)

# a path of this backend: "//x" and "/\x" are hosts to a browser
_LOCAL = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")


@router.get(LOGIN)
def form(
    backend: TheBackend, next: str = ""
) -> Response:  # noqa: A002  # as it is called everywhere
    base = backend.settings.base_path
    if not backend.doors:
        return RedirectResponse(f"{base}/", status_code=303)
    return login_page(base, _local(next, base), 200)


@router.post(LOGIN)
async def login(request: Request, backend: TheBackend, caller: TheCaller) -> Response:
    base = backend.settings.base_path
    # who sends its form slowly has not shown a token yet
    with backend.logins.take(caller.peer):
        fields = await body.read_form(request, backend.settings)
    wanted = _local(fields.get("next", ""), base)
    if not backend.doors:
        return RedirectResponse(wanted, status_code=303)
    wait = backend.attempts.logins.wait(caller.peer)
    if wait:
        headers = {"Retry-After": str(wait)}
        if _is_page(request):
            page = login_page(base, wanted, 429, f"Too many wrong tokens: try again in {wait} s.")
            page.headers.update(headers)
            return page
        return failure(429, TOO_OFTEN, headers=headers)
    kind = backend.doors.kind_of(fields.get("token", "").strip())
    if kind is None:
        backend.attempts.logins.failed(caller.peer)
        backend.attempts.note(caller.peer, "POST", LOGIN)
        if _is_page(request):
            return login_page(base, wanted, 401, "That is not the token.")
        return failure(401, "the token is missing or wrong")
    secret = await backend.write(backend.doors.enter, kind, caller.peer)
    answer = RedirectResponse(wanted, status_code=303)
    answer.set_cookie(
        cookie_name(request.scope),
        secret,
        max_age=round(backend.settings.login_age),
        path=base or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post(LOGOUT)
async def logout(request: Request, backend: TheBackend, caller: TheCaller) -> Response:
    base = backend.settings.base_path
    marks = backend.doors.marks(cookie(request.scope, request.headers))
    if marks:
        await backend.write(access.leave, list(marks), caller)
        backend.news.hub.end_of(marks)
    answer = RedirectResponse(f"{base}{LOGIN}" if backend.doors else f"{base}/", status_code=303)
    answer.delete_cookie(
        cookie_name(request.scope),
        path=base or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


def _local(path: str, base: str) -> str:
    return path if _LOCAL.fullmatch(path) else f"{base}/"


def _is_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
