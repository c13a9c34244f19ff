"""One connection: how much of a request's head is read, and for how long a slow peer is waited for.

uvicorn reads heads of any length for as long as they take. What is refused here has not become a request yet, so it
is answered from here, in the one shape of every failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from perfect.server.settings import ServerSettings

# bytes/s that a peer must read while an answer waits for it
_SLOWEST = 1_000
# the application answers a slow body itself, with 408; this is for those that it does not read
_GRACE = 1.0
# of a body whose request was answered already, so much is read, in the hope of the next request
_ANSWERED_BODY = 1024 * 1024


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with limits; made by a subclass that has the settings."""

    settings: ServerSettings

    _deadline: asyncio.TimerHandle | None = None
    _draining: asyncio.TimerHandle | None = None
    _head = 0
    _in_head = False
    _surplus = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A peer has connected; it is expected to say something soon."""
        super().connection_made(transport)
        self._expect(self.settings.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._expect(None)
        self._drained()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request have come, perhaps the first."""
        if self._deadline is None and self._is_idle():
            self._expect(self.settings.head_timeout)
        if self._in_head or self._deadline is not None:
            self._head += len(data)
        try:
            super().data_received(data)
        except _Refused as refused:
            self._refuse(refused.status, refused.error)
            return
        # a name or value that goes on and on is not shown to the callbacks before it ends
        if self._in_head and self._head > self._most_head():
            self._refuse(431, f"the head of the request has more than {self._most_head()} bytes")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._size, self._surplus = True, 0, 0
        self._expect(self.settings.head_timeout)

    def on_url(self, url: bytes) -> None:
        """A piece of its address."""
        super().on_url(url)
        if len(self.url) > self.settings.limits.url:
            raise _Refused(414, f"the address has more than {self.settings.limits.url} bytes")
