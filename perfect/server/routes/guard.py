"""Where requests may come from: host names and origins; and headers on every answer.

A browser on this machine can be made to send requests here by any page it shows. A page elsewhere gives itself
away by its Origin; one that made its own name resolve to this machine (DNS rebinding), by the Host.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perfect.server.routes.access import route_path
from perfect.server.routes.answers import failure
from perfect.server.settings import ServerSettings, is_loopback

# as characters of the decoded path, and as they are written in a query
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_IN_QUERY = re.compile(rb"[\x00-\x1f\x7f]|%(0[0-8bcefBCEF]|1[0-9a-fA-F]|7[fF])")
_WILDCARDS = frozenset({"0.0.0.0", "::"})
_HEADERS = {
    # scripts and styles come from here only, and nothing is loaded from elsewhere
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # not no-referrer: with that, browsers send `Origin: null` with our own forms
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware that answers 403 and 400."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings
        self._hosts = {settings.host.lower(), *(host.lower() for host in settings.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope, Headers(scope=scope))
        # a proxy may hand on the base path or strip it: routes are found either way
        base = self._settings.base_path
        scope["root_path"] = base
        if base and scope["path"] == base:
            scope["path"] = f"{base}/"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await (refused or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._is_ours(host) or len(headers.getlist("host")) > 1:
            return failure(403, f"this backend is not called {host[:80]!r}")
        for origin in headers.getlist("origin"):
            if not self._may_ask(origin, host):
                return failure(403, f"requests from pages of {origin[:80]!r} are not accepted")
        if "origin" not in headers and _is_from_elsewhere(scope, headers, self._settings.base_path):
            return failure(403, "requests from pages of other sites are not accepted")
        if _CONTROL.search(scope["path"]) or _CONTROL_IN_QUERY.search(scope["query_string"]):
            return failure(400, "the address has control characters in it")
        return None

    def _may_ask(self, origin: str, host: str) -> bool:
        if origin in self._settings.allow_origins:
            return True
        netloc = _netloc(origin)
        return netloc is not None and (netloc == host.lower() or self._is_allowed(netloc))

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        if name is None:
            return False
        if is_loopback(name) or name in self._hosts:
            return True
        return self._settings.host in _WILDCARDS and _is_address(name)

    def _is_allowed(self, netloc: str) -> bool:
        return _name(netloc) in {host.lower() for host in self._settings.allowed_hosts}


def _netloc(origin: str) -> str | None:
    """Host and port of an origin; None for "null" and what is no origin."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") and parts.netloc else None


def _name(netloc: str) -> str | None:
    """The host of ``host:port``."""
    try:
        parts = urlsplit(f"//{netloc}")
        _ = parts.port
    except ValueError:
        return None
    if parts.netloc != netloc or parts.username is not None:
        return None
    return parts.hostname


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_from_elsewhere(scope: Scope, headers: Headers, base: str) -> bool:
    """Whether another site's page asks without saying its Origin (Fetch Metadata, W3C).

    It may lead people here by a link. It may not ask by ``<img>`` or the like, which can't read the answer, but would
    take an execution request from the client it was meant for; nor open such an address as a page.
    """
    if headers.get("sec-fetch-site", "none") not in ("cross-site", "same-site"):
        return False
    is_link = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in ("GET", "HEAD")
    return not is_link or route_path(scope["path"], base).startswith("/api/")
