"""A receiver of webhooks."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from typing import Any


class Receiver:
    """An HTTP server that keeps what it is sent and answers as it is told.

    Args:
        port: where it listens; 0 takes a free one.
        tls: makes it one that is asked over HTTPS.
        size: bytes of each of its answers.

    Attributes:
        url: where it is reached.
        got: headers and JSON of each request.
        answers: status codes of the next answers; afterwards it is 200.
        hold: while it is clear, answers are held back.
        wrote: bytes of answers that the peer let it write.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None, size: int = 0) -> None:
        self.got: list[tuple[dict[str, str], Any]] = []
        self.answers: list[int] = []
        self.hold = threading.Event()
        self.hold.set()
        self.wrote = 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), json.loads(body)))
                status = receiver.answers.pop(0) if receiver.answers else 200
                receiver.hold.wait(20)
                try:
                    self.send_response(status)
                    self.send_header("Location", "/elsewhere")
                    self.send_header("Content-Length", str(size))
                    self.end_headers()
                    for _ in range(0, size, 65536):
                        receiver.wrote += self.wfile.write(b"x" * 65536)
                except OSError:
                    self.close_connection = True  # the peer has had enough

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                pass  # a handshake that the peer broke off

        self.server = Server(("127.0.0.1", port), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.url = f"{'https' if tls else 'http'}://localhost:{self.port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        """Stop."""
        self.hold.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
