"""The one seam of the network: urllib behind it, or memory."""

from __future__ import annotations

import encodings.idna  # for the first connection: a fork while that loads it would hang the child
import http.client
import ipaddress
import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from perfect.errors import BackendUnreachable

LARGEST_ANSWER = 64 << 20  # bytes


@dataclass(frozen=True)
class Response:
    """What came back: status, headers (any letter case) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """Carries one request. The seam where tests and mock mode take the network's place."""

    def send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> Response:
        """Send and return the answer, whatever its status.

        Raises:
            BackendUnreachable: there was none.
        """

    def break_off(self) -> None:
        """Break off what is under way."""

    def close(self) -> None:
        """Break off what is under way; later requests are refused."""


class UrllibTransport:
    """The real transport: `urllib.request`, one connection per request, safe from many threads.

    Redirects are refused (they would carry the token elsewhere). Loopback never goes through a proxy.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self.open: set[http.client.HTTPConnection] = set()  # those that wait for an answer
        self.closed = False
        handlers: list[urllib.request.BaseHandler] = [
            _TrackedHandler(self),
            _TrackedSecureHandler(self),
            _NoRedirect(),
        ]
        if is_loopback(urllib.parse.urlsplit(self.base_url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> Response:
        if self.closed:
            raise BackendUnreachable("this client is closed")
        with reaching():
            request = urllib.request.Request(
                self.base_url + path, data=body, headers=headers, method=method
            )
            try:
                answer = self._opener.open(request, timeout=timeout)
            except urllib.error.HTTPError as error:
                answer = error  # an answer like any other
            with answer:
                return read(answer)

    def close(self) -> None:
        self.closed = True
        self.break_off()

    def break_off(self) -> None:
        for connection in tuple(self.open):
            sock = connection.sock
            if sock is not None:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:  # it was closed meanwhile
                    pass


@contextmanager
def reaching() -> Iterator[None]:
    """Whatever goes wrong in the block means that there was no answer."""
    try:
        yield
    except urllib.error.URLError as error:
        raise BackendUnreachable(str(error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise BackendUnreachable(f"{type(error).__name__}: {error}") from error


def read(answer: Any) -> Response:
    """The whole of an answer.

    Raises:
        BackendUnreachable: it broke off.
    """
    data = answer.read(LARGEST_ANSWER)
    if answer.length:  # of what was announced, so much did not come
        raise BackendUnreachable("the answer broke off")
    return Response(answer.status, dict(answer.headers.items()), data)


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Every redirect is an answer like any other, and not a good one."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> None:
        return None

    http_error_301 = http_error_303 = http_error_302
    http_error_307 = http_error_308 = http_error_302


class _Response(http.client.HTTPResponse):
    """An answer that lets go of its socket also when it breaks off at the start, which http.client forgets."""

    def begin(self) -> None:
        try:
            super().begin()
        except BaseException:
            self.close()
            raise


def tracked(base: type[http.client.HTTPConnection], transport: UrllibTransport) -> Any:
    """A connection class that notes its open sockets, so that a long poll can be broken off."""

    class Tracked(base):  # type: ignore[misc, valid-type]
        response_class = _Response

        def connect(self) -> None:
            transport.open.add(self)
            super().connect()
            if transport.closed:  # meanwhile
                raise ConnectionAbortedError("this client is closed")

        def getresponse(self) -> http.client.HTTPResponse:
            try:
                response: http.client.HTTPResponse = super().getresponse()
                return response
            finally:
                transport.open.discard(self)

        def close(self) -> None:
            transport.open.discard(self)
            super().close()

    return Tracked


class _TrackedHandler(urllib.request.HTTPHandler):
    def __init__(self, transport: UrllibTransport) -> None:
        super().__init__()
        self._connection = tracked(http.client.HTTPConnection, transport)

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, request)


class _TrackedSecureHandler(urllib.request.HTTPSHandler):
    def __init__(self, transport: UrllibTransport) -> None:
        super().__init__()
        self._connection = tracked(http.client.HTTPSConnection, transport)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, request)


class MockTransport:
    """Keeps requests in memory and answers them like a backend with the documented endpoints.

    Attributes:
        requests: (method, path, JSON body) in order of arrival.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []

    def send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> Response:
        said = json.loads(body) if body else None
        self.requests.append((method, path, said))
        answer: Any = {"success": True}
        if path == "/api/flows":
            answer["flow"] = {"id": f"flow-{len(self.requests)}", **(said or {})}
        elif path.startswith("/api/engine/run/"):
            answer["runId"] = f"run-{len(self.requests)}"
        elif path.startswith("/api/execution-requests"):
            answer = None
        return Response(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def break_off(self) -> None:
        pass

    def close(self) -> None:
        pass
