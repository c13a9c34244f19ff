"""A proxy between client and backend that can be told to be a bad one."""

from __future__ import annotations

import gzip
import json
import random
import socket
import threading
from collections import Counter
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """One request that came through."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


class Proxy:
    """Forwards HTTP/1.1 requests, one per connection; between ``start`` and ``stop``, or a ``with`` block.

    Args:
        port: the backend's, on 127.0.0.1.
        seed: of what happens to which request.
        delay: s that an answer may be held back, at random from 0 to this.
        faults: chances of "refuse" (closed before the request is passed on), "drop" (the backend has
            answered, and the answer is thrown away), "truncate" (its second half is missing), "repeat"
            (the request is passed on twice, one after the other), "double" (the answer comes twice).

    Attributes:
        seen: requests in order of arrival.
        done: how often which fault was done.
    """

    def __init__(
        self,
        port: int,
        *,
        seed: int = 0,
        delay: float = 0.0,
        faults: dict[str, float] | None = None,
    ) -> None:
        self.backend_port = port
        self.delay = delay
        self.faults = faults or {}
        self.seen: list[Seen] = []
        self.done: Counter[str] = Counter()
        self.errors: list[BaseException] = []
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._server.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Proxy:
        self._spawn(self._accept)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        with self._lock:
            for connection in (self._server, *self._open):
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:  # its other end was quicker
                    pass
            threads = list(self._threads)
        for thread in threads:
            thread.join(20)
        self._server.close()
        assert not self.errors, self.errors
        assert not any(thread.is_alive() for thread in threads)

    def ingested(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """(session, events) of each native batch, in order of arrival."""
        found = []
        for request in list(self.seen):
            if request.path == "/api/ingest":
                body = request.body
                if request.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                found.append((request.headers["x-perfect-session"], json.loads(body)["events"]))
        return found

    # --- its threads ---------------------------------------------------------------------------

    def _spawn(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        with self._lock:
            self._threads = [other for other in self._threads if other.is_alive()]
            thread.start()
            self._threads.append(thread)

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:  # shut down
                return
            self._spawn(self._serve, connection)

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                self._enter(client)
                client.settimeout(60)
                request = _read_request(client)
                if request is not None:
                    self._handle(client, *request)
        except OSError:  # an end is gone: that is a proxy's life
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            with self._lock:
                self._open.discard(client)

    def _enter(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        if self._stopped.is_set():
            raise OSError("stopped")

    def _handle(self, client: socket.socket, raw: bytes, request: Seen) -> None:
        with self._lock:
            self.seen.append(request)
            fault = self._draw()
            pause = self._chance.uniform(0, self.delay)
        if fault == "refuse":
            return
        if fault == "repeat":
            self._forward(raw)
        answer = self._forward(raw)
        if self.delay and self._stopped.wait(pause):
            return
        if fault == "drop":
            return
        if fault == "truncate":
            answer = answer[: len(answer) // 2]
        client.sendall(answer * (2 if fault == "double" else 1))

    def _draw(self) -> str | None:
        number = self._chance.random()
        for fault, chance in self.faults.items():
            number -= chance
            if number < 0:
                self.done[fault] += 1
                return fault
        return None

    def _forward(self, raw: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.backend_port), timeout=60) as backend:
            self._enter(backend)
            try:
                backend.sendall(raw)
                pieces = []
                while piece := backend.recv(1 << 16):
                    pieces.append(piece)
                return b"".join(pieces)
            finally:
                with self._lock:
                    self._open.discard(backend)


def _read_request(client: socket.socket) -> tuple[bytes, Seen] | None:
    """The request as it is to be passed on, and what it says; None where none came."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(1 << 16)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    kept = [first]
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
        if name.strip().lower() != "connection":
            kept.append(line)
    kept.append("Connection: close")
    while len(body) < int(headers.get("content-length", 0)):
        piece = client.recv(1 << 16)
        if not piece:
            return None
        body += piece
    method, path, _ = first.split(" ", 2)
    raw = "\r\n".join(kept).encode("latin-1") + b"\r\n\r\n" + body
    return raw, Seen(method, path, headers, body)
