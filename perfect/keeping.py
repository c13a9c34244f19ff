"""A transport that keeps its connection, for a thread that asks again as soon as it was answered."""

from __future__ import annotations

import http.client
import select
import threading
import urllib.parse
import urllib.request
from time import monotonic

from perfect.errors import BackendUnreachable
from perfect.transport import Response, UrllibTransport, is_loopback, read, reaching, tracked

LONGEST_IDLE = 2.0  # s; every backend keeps a connection open for longer


class KeepingTransport(UrllibTransport):
    """Sends the next request on the connection of the last answer, if that is surely still open.

    Nothing is sent twice: what breaks off on a kept connection has had no answer, as on any other. Through a proxy no
    connection is kept. To be closed in the end, or a connection may be left open.
    """

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        parts = urllib.parse.urlsplit(self.base_url)
        self._host, self._root = parts.netloc, parts.path
        self._connection = {
            "http": tracked(http.client.HTTPConnection, self),
            "https": tracked(http.client.HTTPSConnection, self),
        }.get(parts.scheme)
        if not is_loopback(parts.hostname or "") and parts.scheme in urllib.request.getproxies():
            self._connection = None
        self._kept: http.client.HTTPConnection | None = None
        self._since = 0.0
        self._lock = threading.Lock()

    def send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> Response:
        if self._connection is None:
            return super().send(method, path, body, headers, timeout)
        with reaching():
            connection = self._reopened(timeout) or self._connection(self._host, timeout=timeout)
            kept = False
            try:
                if self.closed:
                    raise BackendUnreachable("this client is closed")
                connection.request(method, self._root + path, body, headers)
                with connection.getresponse() as answer:
                    response = read(answer)
                    kept = answer.isclosed() and self._keep(connection)
                return response
            finally:
                if not kept:
                    connection.close()

    def close(self) -> None:
        super().close()
        with self._lock:
            connection, self._kept = self._kept, None
        if connection is not None:
            connection.close()

    def _keep(self, connection: http.client.HTTPConnection) -> bool:
        with self._lock:
            if self.closed or self._kept is not None or connection.sock is None:
                return False
            self._kept, self._since = connection, monotonic()
            return True

    def _reopened(self, timeout: float) -> http.client.HTTPConnection | None:
        """The connection of the last answer, to be broken off like any that waits for one."""
        with self._lock:
            connection, self._kept = self._kept, None
        if connection is None:
            return None
        sock = connection.sock
        try:
            # What can be read before anything was asked is the end of the connection.
            if monotonic() - self._since < LONGEST_IDLE and not select.select([sock], (), (), 0)[0]:
                sock.settimeout(timeout)
                self.open.add(connection)
                return connection
        except (OSError, ValueError):  # a descriptor that is too large for select
            pass
        connection.close()
        return None
