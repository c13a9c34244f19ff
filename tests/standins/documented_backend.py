"""A stand-in for a deployed backend: one that knows only what is documented, and is strict about it.

Its ways, each of which a client must cope with:

- a flow is used up by one run; asking for a run of a used or unknown one answers 200 without runId
- 404 for an update of an unknown run, and for one after the task's or the run's terminal state
- an index that leaves a gap breaks the run: 500 to all of its updates, and it never ends
- 413 over 100 kB, 415 for a compressed body, an HTML page for malformed JSON and unknown routes
- `complete` leaves a run with unfinished tasks RUNNING; only a failed task entry can fail a run
- one global heartbeat: when neither it nor a poll arrives for 10 s, every run fails
- estimates learned from two runs or more win over the client's
- it has never heard of SKIPPED, CANCELLED, /api/version or any header of a newer client

All is kept in memory. By hand: ``python -m tests.standins.documented_backend --port 3000``.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.standins.documented_engine import ROUTES, Engine, Flow, Gone, Refusal, Run

T = TypeVar("T")


@dataclass
class Request:
    """One request as it arrived.

    Attributes:
        path: without the query string, not unquoted.
        query: its parameters, the last one of a name.
        headers: names in lower case.
        body: the parsed JSON, None where there was none or it could not be parsed.
        at: arrival, ``time.monotonic()`` in s.
        status: what was answered; None while it is being answered, 0 if the connection was dropped.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes
    body: Any
    at: float
    status: int | None = None


@dataclass
class _Fault:
    left: int
    path: re.Pattern[str]
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    applied: bool = False


@dataclass
class _Answer:
    status: int
    content: Any
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[str, bytes]:
        if isinstance(self.content, str):
            return "text/html; charset=utf-8", self.content.encode()
        return "application/json; charset=utf-8", json.dumps(self.content).encode()


class DocumentedBackend:
    """A documented backend on a port of its own, running between ``start`` and ``stop``.

    As a context manager it starts and stops itself, and fails the test if the stand-in itself broke.

    Args:
        port: 0 for any free one; it stays the same when stopped and started again.
        silence_limit: s without heartbeat or poll after which every run fails.
        poll_timeout: s after which a long poll is answered with null.
        body_limit: bytes that a request body may have.
        on_request: called with every finished request.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        silence_limit: float = 10.0,
        poll_timeout: float = 30.0,
        body_limit: int = 100_000,
        on_request: Callable[[Request], None] | None = None,
    ) -> None:
        self.port = port
        self.body_limit = body_limit
        self.on_request = on_request
        self.errors: list[BaseException] = []
        self._engine = Engine(silence_limit, poll_timeout)
        self._changed = self._engine.changed
        self._journal: list[Request] = []
        self._faults: list[_Fault] = []
        self._connections: set[socket.socket] = set()
        self._server: _Server | None = None
        self._threads: list[threading.Thread] = []

    # Running it

    def start(self) -> None:
        """Listen; after ``stop`` on the same port, with all flows and runs still there."""
        assert self._server is None, "already started"
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        self._engine.open()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True),
            threading.Thread(target=self._engine.watch_silence, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Die in the middle: every open connection is cut without an answer. Twice is once."""
        if self._server is None:
            return
        self._engine.close()
        self._server.shutdown()
        self._server.server_close()
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            assert self._changed.wait_for(lambda: not self._connections, 10), "a request hangs"
        for thread in self._threads:
            thread.join(10)
        self._server = None

    def __enter__(self) -> DocumentedBackend:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.stop()
        if self.errors and kind is None:
            raise AssertionError("the stand-in itself failed") from self.errors[0]

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    # Reading it

    @property
    def journal(self) -> list[Request]:
        """Every request so far, in order of arrival."""
        with self._changed:
            return list(self._journal)

    def requests(self, method: str = "", path: str = "") -> list[Request]:
        """The requests of a method whose path contains a match of the regular expression."""
        return [
            request
            for request in self.journal
            if method in ("", request.method) and re.search(path, request.path)
        ]

    @property
    def flows(self) -> list[Flow]:
        """The flows that can be run, oldest first."""
        with self._changed:
            return list(self._engine.flows.values())

    @property
    def runs(self) -> list[Run]:
        """The runs, oldest first."""
        with self._changed:
            return list(self._engine.runs.values())

    def runs_of(self, flow_name: str) -> list[Run]:
        """The runs of the flow of that name, oldest first."""
        return [run for run in self.runs if run.flow.name == flow_name]

    def run(self, run_id: str) -> Run:
        """The run of that id."""
        return self._engine.runs[run_id]

    def wait_for(self, predicate: Callable[[], T], timeout: float = 10.0) -> T:
        """Wait until the predicate is true, looked at again after every change; return its value.

        Raises:
            AssertionError: it did not come true within so many s.
        """
        with self._changed:
            value = self._changed.wait_for(predicate, timeout)
            if not value:
                seen = [(run.flow.name, run.state) for run in self._engine.runs.values()]
                last = [(r.method, r.path, r.status) for r in self._journal[-10:]]
                raise AssertionError(f"not within {timeout} s; runs: {seen}; last requests: {last}")
            return value

    # Steering it

    def trigger(self, flow_name: str, configuration: str = "development") -> str:
        """What a click on "Run" does: queue an execution request and return the run's id."""
        with self._changed:
            for flow in self._engine.flows.values():
                if flow.name == flow_name:
                    return self._engine.request_run(flow, configuration).id
        raise LookupError(f"no unused flow {flow_name!r}")

    def learn(self, flow_name: str, task_name: str, *durations: int) -> None:
        """Remember durations (ms) of a task as if it had run that often."""
        with self._changed:
            for duration in durations:
                self._engine.learn(flow_name, task_name, duration)

    def fail_next(
        self, n: int = 1, status: int = 500, path: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Refuse the next n requests whose path contains a match, with an HTML page."""
        with self._changed:
            self._faults.append(_Fault(n, re.compile(path), status, headers or {}))

    def drop_next(self, n: int = 1, applied: bool = False, path: str = "") -> None:
        """Cut the connection of the next n matching requests, before or after applying them."""
        with self._changed:
            self._faults.append(_Fault(n, re.compile(path), applied=applied))

    # Answering

    def _handle(self, request: Request, connection: socket.socket) -> _Answer | None:
        """The answer, or None to cut the connection."""
        unreadable = self._read_body(request)
        with self._changed:
            if self._engine.closed:
                return None
            self._journal.append(request)
            self._changed.notify_all()
            fault = next((f for f in self._faults if f.left and f.path.search(request.path)), None)
            if fault:
                fault.left -= 1
        if fault and fault.status:
            return _Answer(fault.status, _page(f"Error {fault.status}"), fault.headers)
        if fault and not fault.applied:
            return None
        try:
            answer = unreadable or self._dispatch(request, connection)
        except Refusal as no:
            answer = _Answer(no.status, {"success": False, "error": no.error})
        except Gone:
            return None
        return None if fault or self._engine.closed else answer

    def _finished(self, request: Request, status: int) -> None:
        with self._changed:
            request.status = status
            self._changed.notify_all()
        if self.on_request:
            self.on_request(request)

    def _read_body(self, request: Request) -> _Answer | None:
        """Parse it, as Express does before it looks for a route; what to answer if that fails."""
        if len(request.raw) > self.body_limit:
            return _Answer(413, _page("PayloadTooLargeError: request entity too large"))
        if request.headers.get("content-encoding", "identity") != "identity":
            return _Answer(415, _page("UnsupportedMediaTypeError: unsupported content encoding"))
        if request.raw and "json" in request.headers.get("content-type", ""):
            try:
                request.body = json.loads(request.raw, parse_constant=_not_json)
                if not isinstance(request.body, dict | list):
                    raise ValueError("Unexpected token at position 0")
            except (ValueError, RecursionError) as error:
                return _Answer(400, _page(f"SyntaxError: {error}\n    at JSON.parse"))
        return None

    def _dispatch(self, request: Request, connection: socket.socket) -> _Answer:
        """What its route answers.

        Raises:
            Refusal: the engine says no.
            Gone: the poller left, or the backend is dying.
        """
        for method, pattern, answer in ROUTES:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                break
        else:
            return _Answer(404, _page(f"Cannot {request.method} {request.path}"))
        if answer is Engine.poll:
            return _Answer(200, self._engine.poll(lambda: _still_there(connection)))
        body = request.body if isinstance(request.body, dict) else {}
        with self._changed:
            content = answer(self._engine, body, request.query, *map(unquote, match.groups()))
            self._changed.notify_all()
        return _Answer(200, content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, backend: DocumentedBackend) -> None:
        self.backend = backend
        super().__init__(("127.0.0.1", backend.port), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks DNS for this machine's name

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.backend._changed:
            self.backend._connections.add(request)
            self.backend._changed.notify_all()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.backend._changed:
            self.backend._connections.discard(request)
            self.backend._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            self.backend.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _Server

    def _serve(self) -> None:
        at = time.monotonic()
        self.close_connection = True
        length = self.headers.get("Content-Length", "0")
        raw = self.rfile.read(int(length)) if length.isdigit() else b""
        if len(raw) < int(length if length.isdigit() else 0):
            return  # the client left in the middle of its own request
        url = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=url.path,
            query={name: values[-1] for name, values in parse_qs(url.query).items()},
            headers={name.lower(): value for name, value in self.headers.items()},
            raw=raw,
            body=None,
            at=at,
        )
        backend = self.server.backend
        answer = backend._handle(request, self.connection)
        if answer is None:
            backend._finished(request, 0)
            return
        kind, content = answer.encoded()
        backend._finished(request, answer.status)
        self.send_response(answer.status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve

    def version_string(self) -> str:
        return "Express"

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _still_there(connection: socket.socket) -> bool:
    """Whether the other side has not closed the connection, as far as the kernel knows."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    try:
        return not poll.poll(0) or bool(connection.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


def _page(text: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Error</title>\n'
        f"</head>\n<body>\n<pre>{html.escape(text)}</pre>\n</body>\n</html>\n"
    )


def _not_json(constant: str) -> Any:
    raise ValueError(f"Unexpected token {constant[0]}")


def _main() -> None:
    parser = argparse.ArgumentParser(description="A documented backend to try a client against.")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--silence-limit", type=float, default=10.0, help="seconds")
    parser.add_argument("--poll-timeout", type=float, default=30.0, help="seconds")
    given = parser.parse_args()

    def show(request: Request) -> None:
        print(request.status, request.method, request.path, request.raw.decode()[:200], flush=True)

    backend = DocumentedBackend(
        given.port,
        silence_limit=given.silence_limit,
        poll_timeout=given.poll_timeout,
        on_request=show,
    )
    with backend, suppress(KeyboardInterrupt):
        print(f"a documented backend on {backend.url}; Ctrl+C ends it", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    _main()
