"""Who is asking: a token in a header, or the cookie of a session; and what is not for everyone.

Everything needs a credential where a token is set, but for the few addresses in ``_PUBLIC``. They are compared whole,
so no way of writing an address differently gets around this.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from perfect.server.engine import access
from perfect.server.engine.backend import Backend
from perfect.server.pages import render
from perfect.server.routes.answers import failure
from perfect.server.store import logins
from perfect.server.store.records import Actor

LOGIN, LOGOUT = "/login", "/logout"
_PUBLIC = frozenset({LOGIN, "/style.css"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
ONLY_READS = "with this token one can only read"
TOO_OFTEN = "too many wrong tokens came from your address"


class Access:
    """ASGI middleware that answers 401, and 403 to those who may only read.

    What it lets through has an ``Actor`` in ``scope["state"]["caller"]``, and in ``["login"]`` the mark of the session of
    the page, if it came with its cookie.

    Args:
        app: what it guards.
        backend: whose tokens and sessions count.
    """

    def __init__(self, app: ASGIApp, backend: Backend) -> None:
        self._app = app
        self._backend = backend
        self._base = backend.settings.base_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = await self._refusal(scope)
        await (answer or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), route_path(scope["path"], self._base)
        peer = peer_of(scope)
        doors = self._backend.doors
        caller: Actor | None = Actor(access.OPEN, peer)
        if doors:
            authorization = headers.get("authorization")
            if authorization is not None:
                wait = self._backend.attempts.tokens.wait(peer)
                if wait:
                    return failure(429, TOO_OFTEN, headers={"Retry-After": str(wait)})
                kind = doors.kind_of(_bearer(authorization))
                caller = None if kind is None else Actor(kind, peer)
                if caller is None:
                    self._backend.attempts.tokens.failed(peer)
                    self._backend.attempts.note(peer, scope["method"], scope["path"])
            else:
                caller = await self._of_session(scope, headers, peer)
            if caller is None and path not in _PUBLIC:
                return self._unknown(scope, headers, path)
        scope.setdefault("state", {})["caller"] = caller or Actor(access.NONE, peer)
        if (
            caller is not None
            and caller.kind == access.READ
            and scope["method"] not in _READING
            and path not in (LOGIN, LOGOUT)
        ):
            return failure(403, ONLY_READS)
        return None

    async def _of_session(self, scope: Scope, headers: Headers, peer: str) -> Actor | None:
        marks = self._backend.doors.marks(cookie(scope, headers))
        if not marks:
            return None
        found = await asyncio.to_thread(self._find, marks)
        if found is None:
            return None
        mark, _, created, used = found
        now = self._backend.clock.now()
        if not self._backend.doors.valid(created, used, now):
            return None
        if now - used > access.TOUCH:
            self._backend.write_soon(access.touch, mark)
        scope.setdefault("state", {})["login"] = mark
        return Actor(marks[mark], peer, access.shown(mark))

    def _find(self, marks: dict[str, str]) -> tuple[str, str, int, int] | None:
        with self._backend.read() as connection:
            return logins.find(connection, marks)

    def _unknown(self, scope: Scope, headers: Headers, path: str) -> Response:
        challenge = {"WWW-Authenticate": 'Bearer realm="perfect"'}
        if (
            scope["method"] == "GET"
            and not path.startswith("/api/")
            and "text/html" in headers.get("accept", "")
        ):
            query = scope["query_string"].decode("ascii", "replace")
            wanted = f"{scope['path']}?{query}" if query else scope["path"]
            page = login_page(self._base, wanted, 401)
            page.headers.update(challenge)
            return page
        return failure(401, "the token is missing or wrong", headers=challenge)


def login_page(base: str, wanted: str, status: int, error: str | None = None) -> Response:
    """The form in which one gives the token.

    Args:
        base: the base path.
        wanted: where to go afterwards.
        status: of the answer.
        error: what was wrong the last time.
    """
    page = render("login.html", base=base, wanted=wanted, error=error)
    page.status_code = status
    return page


def route_path(path: str, base: str) -> str:
    """The path without the base path, which a proxy may have stripped already."""
    return path[len(base) :] if base and path.startswith(f"{base}/") else path


def peer_of(scope: Scope) -> str:
    """The address a request came from."""
    client = scope.get("client")
    return client[0] if client else ""


def login_of(request: Request) -> str | None:
    """The mark of the session of the page that a request belongs to."""
    return getattr(request.state, "login", None)


def cookie_name(scope: Scope) -> str:
    """The session cookie's name: browsers share cookies among the ports of a host, so the port is in it."""
    server = scope.get("server")
    return f"perfect_session_{server[1]}" if server and server[1] else "perfect_session"


def cookie(scope: Scope, headers: Headers) -> str:
    """The session cookie's value; "" without one."""
    return cookie_parser(headers.get("cookie", "")).get(cookie_name(scope), "")


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
