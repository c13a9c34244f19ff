"""The transport that keeps its connection, against raw servers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from perfect import keeping
from perfect.errors import BackendUnreachable
from perfect.keeping import KeepingTransport
from tests.test_api import http_answer, server

ANSWER = http_answer(b"{}")


class Several:
    """A raw server that gives these answers to each connection in turn, then waits for its end."""

    def __init__(self, *connections: tuple[bytes, ...], closes: bool = False) -> None:
        self._connections = connections
        self._closes = closes
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.got: list[tuple[int, str]] = []  # (number of the connection, request line)
        self.ended = [threading.Event() for _ in connections]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        for number, answers in enumerate(self._connections):
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(10)
                for answer in answers:
                    self.got.append((number, _head(connection)))
                    connection.sendall(answer)
                if not self._closes and _head(connection):
                    self.got.append((number, "unexpected"))
            self.ended[number].set()

    def __enter__(self) -> Several:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._thread.join(10)
        self._socket.close()
        assert not self._thread.is_alive()


def _head(connection: socket.socket) -> str:
    """The first line of the next request; "" at the end."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        if not data:
            return ""
        head += data
    return head.split(b"\r\n")[0].decode()


@contextmanager
def keeping_to(url: str) -> Iterator[KeepingTransport]:
    transport = KeepingTransport(url)
    try:
        yield transport
    finally:
        transport.close()


def _get(transport: KeepingTransport, path: str) -> bytes:
    return transport.send("GET", path, None, {}, 5).body


def test_the_next_request_goes_the_same_way() -> None:
    with Several((ANSWER, ANSWER, ANSWER)) as backend:
        with keeping_to(f"{backend.url}/base") as transport:
            for path in ("/a", "/b", "/c"):
                assert _get(transport, path) == b"{}"
                assert not transport.open
    assert [line.split()[1] for _, line in backend.got] == ["/base/a", "/base/b", "/base/c"]


def test_what_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LONGEST_IDLE", 0.0)
    with Several((ANSWER,), (ANSWER,)) as backend, keeping_to(backend.url) as transport:
        _get(transport, "/a")
        _get(transport, "/b")
        assert backend.ended[0].wait(5)  # let go of, not left open
    assert [number for number, _ in backend.got] == [0, 1]


def test_what_was_closed_at_the_other_end_is_not_used_again() -> None:
    with Several((ANSWER,), (ANSWER,), closes=True) as backend:
        with keeping_to(backend.url) as transport:
            _get(transport, "/a")
            assert backend.ended[0].wait(5)
            _get(transport, "/b")
    assert [number for number, _ in backend.got] == [0, 1]


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(b"{}", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["close", "1.0"],
)
def test_who_says_that_it_closes_is_believed(answer: bytes) -> None:
    with Several((answer,), (answer,)) as backend, keeping_to(backend.url) as transport:
        assert _get(transport, "/a") == _get(transport, "/b") == b"{}"
    assert [number for number, _ in backend.got] == [0, 1]


def test_nothing_is_sent_twice() -> None:
    with Several((ANSWER, b""), closes=True) as backend, keeping_to(backend.url) as transport:
        _get(transport, "/a")
        with pytest.raises(BackendUnreachable):
            _get(transport, "/b")
        assert not transport.open
    assert [line.split()[1] for _, line in backend.got] == ["/a", "/b"]


def test_a_request_on_a_kept_connection_can_be_broken_off_and_is_in_time() -> None:
    with Several((ANSWER, b"")) as backend, keeping_to(backend.url) as transport:
        _get(transport, "/a")
        with pytest.raises(BackendUnreachable, match="timed out"):
            transport.send("GET", "/b", None, {}, 0.05)
    with Several((ANSWER, b"")) as backend, keeping_to(backend.url) as transport:
        _get(transport, "/a")
        failed = threading.Event()

        def ask() -> None:
            with pytest.raises(BackendUnreachable) as caught:
                _get(transport, "/b")
            if "timed out" not in str(caught.value):
                failed.set()

        thread = threading.Thread(target=ask)
        thread.start()
        while thread.is_alive():  # again, because it may only just be setting out
            transport.break_off()
            thread.join(0.01)
        assert failed.is_set()


def test_closing_closes_what_is_kept_and_refuses_the_rest() -> None:
    with Several((ANSWER,)) as backend:
        transport = KeepingTransport(backend.url)
        _get(transport, "/a")
        transport.close()
        assert backend.ended[0].wait(5)
        with pytest.raises(BackendUnreachable, match="closed"):
            _get(transport, "/b")


def test_through_a_proxy_goes_each_request_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(ANSWER, ANSWER) as (proxy, got):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        with keeping_to("http://backend.invalid:3000") as transport:
            _get(transport, "/a")
            _get(transport, "/b")
    assert [head.split()[1] for head in got] == [
        b"http://backend.invalid:3000/a",
        b"http://backend.invalid:3000/b",
    ]


@pytest.mark.parametrize(
    "url", ["", "nonsense", "http://", "http://127.0.0.1:port", "ftp://127.0.0.1/"]
)
def test_an_impossible_address_gives_no_answer(url: str) -> None:
    with keeping_to(url) as transport, pytest.raises(BackendUnreachable):
        _get(transport, "/a")
