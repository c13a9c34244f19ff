"""Methods that no route names: HEAD, which is answered as GET is, and those that are not allowed."""

from __future__ import annotations

from functools import cache
from re import Pattern

from fastapi import FastAPI, Request
from fastapi.routing import iter_route_contexts
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from perfect.server.routes.access import route_path
from perfect.server.routes.answers import failure

# their GET has no end, or hands out work
_NO_HEAD = frozenset({"/api/stream", "/api/execution-requests"})


class Head:
    """ASGI middleware that asks the application for GET; the server then leaves the body out.

    Args:
        app: the application.
        base: the base path.
    """

    def __init__(self, app: ASGIApp, base: str) -> None:
        self._app = app
        self._base = base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer."""
        if (
            scope["type"] != "http"
            or scope["method"] != "HEAD"
            or route_path(scope["path"], self._base) in _NO_HEAD
        ):
            await self._app(scope, receive, send)
            return
        asked: Scope = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send)
        finally:
            # by which it is counted
            if "route" in asked:
                scope["route"] = asked["route"]


def install(app: FastAPI, base: str) -> None:
    """Say with every 405 which methods that address has; a route by itself knows of its own only.

    Args:
        app: the application.
        base: the base path.
    """

    @cache
    def routes() -> list[tuple[Pattern[str], set[str]]]:
        return [
            (compile_path(found.path)[0], set(found.methods or ()))
            for found in iter_route_contexts(app.routes)
            if found.path is not None
        ]

    @app.exception_handler(405)
    async def _not_allowed(request: Request, _error: Exception) -> Response:
        path = route_path(request.scope["path"], base)
        methods = set[str]().union(*(found for regex, found in routes() if regex.match(path)))
        if "GET" in methods and path not in _NO_HEAD:
            methods.add("HEAD")
        allow = ", ".join(sorted(methods))
        return failure(405, f"this address is for {allow}", headers={"Allow": allow})
