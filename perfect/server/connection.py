"""One connection: how much of a request's head is read, and for how long a slow peer is waited for.

uvicorn reads heads of any length for as long as they take. What is refused here has not become a request yet, so it
is answered from here, in the one shape of every failure.
"""

from __future__ import annotations

import asyncio

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from perfect.server.settings import ServerSettings

# bytes/s that a peer must read at least while an answer waits for it
_SLOWEST = 1_000
# the application itself answers a slow body with 408; this is for those that it does not read
_GRACE = 1.0
# seconds in which a peer may go on sending what was refused: closed at once, the answer would be lost with it
_LINGER = 1.0


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with limits; ``limited`` makes the class that has the settings."""

    settings: ServerSettings
    # those without a request under way, the one that has been so for longest first; of all connections
    idle: dict[Connection, None]

    _deadline: asyncio.TimerHandle | None = None
    _draining: asyncio.TimerHandle | None = None
    _refusal: tuple[int, str] | None = None
    _refused = False
    _in_head = False
    _in_message = False
    _begun = 0
    _read = 0
    _size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A peer has connected, and should say something soon."""
        super().connection_made(transport)
        self._expect(self.settings.head_timeout)
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._expect(None)
        self._stop_draining()
        self.idle.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        if self._refused:
            return
        # where in these bytes a request begins is not known; but when none was under way, and one is now, at the start
        begun, whole = self._begun, self._in_message
        super().data_received(data)
        if self._refused or self.transport.is_closing():
            return
        if self._in_head and self._begun - begun == (0 if whole else 1):
            # a name or value that goes on and on is not handed to the callbacks before it ends
            self._read += len(data)
            most = self.settings.limits.url + self.settings.limits.headers
            if self._read > most:
                self._refuse(431, f"the head of the request has more than {most} bytes")
        elif self._deadline is None and self.timeout_keep_alive_task is None and self._is_idle():
            self._expect(self.settings.head_timeout)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._begun += 1
        self._read = self._size = 0
        self._expect(self.settings.head_timeout)

    def on_url(self, url: bytes) -> None:
        """A piece of its address."""
        super().on_url(url)
        most = self.settings.limits.url
        if len(self.url) > most:
            self._stop(414, f"the address has more than {most} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        super().on_header(name, value)
        limits = self.settings.limits
        self._size += len(name) + len(value)
        if len(self.headers) > limits.header_count:
            self._stop(431, f"the request has more than {limits.header_count} headers")
        if self._size > limits.headers:
            self._stop(431, f"the headers have more than {limits.headers} bytes")

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._in_head = False
        self.idle.pop(self, None)
        self._expect(self.settings.body_timeout + _GRACE)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._in_message = False
        self._expect(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request is answered."""
        super().on_response_complete()
        if self._is_idle() and not self.transport.is_closing():
            self._rest()

    def pause_writing(self) -> None:
        """The peer reads more slowly than the answer is written."""
        super().pause_writing()
        self._stop_draining()
        self._drain()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._stop_draining()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What came is no request, or more than is taken."""
        status, error = self._refusal or (400, "that is not HTTP")
        self._refuse(status, error)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _rest(self) -> None:
        """Nothing is asked for now: this costs a place, of which there are so many for everyone who may come."""
        self.idle.pop(self, None)
        self.idle[self] = None
        if len(self.idle) > self.settings.limits.idle:
            longest = next(iter(self.idle))
            del self.idle[longest]
            longest.transport.close()

    def _stop(self, status: int, error: str) -> None:
        # the parser makes one of its own errors of this, and uvicorn then asks for the 400
        self._refusal = (status, error)
        raise ValueError(error)

    def _refuse(self, status: int, error: str) -> None:
        body = orjson.dumps({"success": False, "error": error, "detail": None})
        self.transport.write(
            STATUS_LINE[status] + b"content-type: application/json\r\n"
            b"x-content-type-options: nosniff\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self._refused = True
        self.transport.write_eof()
        self._expect(_LINGER)

    def _expect(self, seconds: float | None) -> None:
        """Wait for more for so long from now; None for not at all."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._deadline = None
        if self._refused or self.transport.is_closing():
            self.transport.close()
            return
        if self.flow.read_paused:
            # it is not the peer that is slow: its bytes are not read for now
            self._expect(self.settings.body_timeout)
        elif self._in_head and self._is_idle():
            self._refuse(408, "the head of the request took too long to arrive")
        else:
            self.transport.close()

    def _drain(self, before: int | None = None) -> None:
        """Look again and again whether the peer reads at all."""
        left = self.transport.get_write_buffer_size()
        seconds = self.settings.write_timeout
        if before is not None and before - left < _SLOWEST * seconds:
            self.transport.abort()
            return
        self._draining = self.loop.call_later(seconds, self._drain, left)

    def _stop_draining(self) -> None:
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None


def limited(settings: ServerSettings) -> type[Connection]:
    """The protocol with these settings."""
    return type("Connection", (Connection,), {"settings": settings, "idle": {}})
