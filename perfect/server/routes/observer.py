"""What was asked and how it was answered: counted for the metrics, and written down if that is wanted.

Nothing here knows headers beside the two that say who is speaking, and of an address only its path: tokens, cookies
and queries are never written.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perfect.server.accesslog import AccessLog
from perfect.server.engine.clock import Clock, iso

_NO_ROUTE = "(none)"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LONGEST = 200


class Answered:
    """How many requests were answered, by method, route and status."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, int]] = Counter()


class Observer:
    """ASGI middleware around all others.

    Args:
        app: what it is around.
        answered: where requests are counted.
        clock: the time.
        log: where they are written down; None for nowhere.
    """

    def __init__(
        self, app: ASGIApp, answered: Answered, clock: Clock, log: AccessLog | None
    ) -> None:
        self._app = app
        self._answered = answered
        self._clock = clock
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, and note how."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status, size = 500, 0

        async def noting(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        path = scope["path"]
        try:
            await self._app(scope, receive, noting)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "(other)"
            route = getattr(scope.get("route"), "path", _NO_ROUTE)
            self._answered.counts[method, route, status] += 1
            if self._log is not None:
                ms = (time.perf_counter() - began) * 1000
                self._log.write(self._entry(scope, path, route, status, ms, size))

    def _entry(
        self, scope: Scope, path: str, route: str, status: int, ms: float, size: int
    ) -> dict[str, Any]:
        headers = Headers(scope=scope)
        peer = scope.get("client")
        return {
            "time": iso(self._clock.now()),
            "method": scope["method"][:_LONGEST],
            "route": route,
            "path": path[:_LONGEST],
            "status": status,
            "ms": round(ms, 3),
            "bytes": size,
            "peer": peer[0] if peer else None,
            "client": headers.get("x-perfect-client", "")[:_LONGEST] or None,
            "session": headers.get("x-perfect-session", "")[:_LONGEST] or None,
        }
