"""Who may speak to the backend at all: host names, origins, the token; and headers on every answer.

A browser on this machine can be made to send requests here by any page it shows. A page elsewhere gives itself
away by its Origin; one that made its own name resolve to this machine (DNS rebinding), by the Host.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perfect.server.routes.answers import failure
from perfect.server.settings import ServerSettings, is_loopback

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_WILDCARDS = frozenset({"0.0.0.0", "::"})
_HEADERS = {
    # scripts and styles come from here only, and nothing is loaded from elsewhere
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # not no-referrer: with that, browsers send `Origin: null` with our own forms
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware that answers 401 and 403."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings
        self._hosts = {settings.host.lower(), *(host.lower() for host in settings.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope["method"], Headers(scope=scope))
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

    def _refusal(self, method: str, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return failure(403, f"this backend is not called {host[:80]!r}")
        origin = headers.get("origin")
        if origin is not None and method not in _SAFE:
            netloc = _netloc(origin)
            if netloc is None or (netloc != host.lower() and not self._is_allowed(netloc)):
                return failure(403, f"requests from pages of {origin[:80]!r} are not accepted")
        token = self._settings.token
        if token and not _carries(headers.get("authorization", ""), token):
            challenge = {"WWW-Authenticate": 'Basic realm="perfect", charset="UTF-8"'}
            return failure(401, "the token is missing or wrong", headers=challenge)
        return None

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


def _carries(authorization: str, token: str) -> bool:
    """Whether the header carries the token: as a bearer, or as the password a browser asks for."""
    scheme, _, value = authorization.partition(" ")
    given = value.strip()
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode(), token.encode())
