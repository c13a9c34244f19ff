"""A load balancer: each connection goes to the next of several backends, past those that are down."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Sequence

_PIECE = 1 << 16


class Balancer:
    """Between ``with`` and the end of its block.

    Args:
        ports: of the backends, on 127.0.0.1.

    Attributes:
        port: its own.
        url: where clients reach it.
        passed: how many connections each backend has had, by its port.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._turn = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._server.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.passed: Counter[int] = Counter()

    def __enter__(self) -> Balancer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._closed = True
            for one in (self._server, *self._open):
                _shut(one)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:  # closed
                return
            backend = self._connect()
            with self._lock:
                if backend is None or self._closed:
                    client.close()
                    continue
                self._open |= {client, backend}
            for ends in ((client, backend), (backend, client)):
                threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _connect(self) -> socket.socket | None:
        for _ in self._ports:
            port = self._ports[self._turn % len(self._ports)]
            self._turn += 1
            try:
                backend = socket.create_connection(("127.0.0.1", port), timeout=60)
            except OSError:
                continue
            self.passed[port] += 1
            return backend
        return None

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(_PIECE):
                target.sendall(piece)
        except OSError:  # an end is gone
            pass
        with self._lock:
            both = {source, target} & self._open
            self._open -= both
        # the first of the two directions that ends, ends the other; the second closes
        for one in (source, target):
            _shut(one)
        if not both:
            source.close()
            target.close()


def _shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:  # not connected any more
        pass
