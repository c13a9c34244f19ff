"""Too much, too slow, too deep, or not what it says: each with the answer it gets."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perfect.errors import ConfigurationError
from perfect.server import Limits, ServerSettings
from perfect.server.connection import Connection
from perfect.server.engine.places import Places
from perfect.server.engine.refusals import TooMany
from tests.server.conftest import Running
from tests.server.peers import Answer, ended, started, wait_until

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
HEAD = b"POST /api/flows HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A backend with small limits and little patience."""
    limits = Limits(
        body=100_000, events=10, url=1_000, headers=4_000, header_count=30, polls_each=2, polls=3
    )
    folder = tmp_path_factory.mktemp("small")
    backend = Running(
        ServerSettings(
            db=folder / "perfect.db",
            port=0,
            poll=20.0,
            limits=limits,
            head_timeout=0.4,
            body_timeout=0.4,
            write_timeout=0.3,
        )
    )
    yield backend
    backend.server.stop()


def raw(backend: Running, *pieces: bytes, until: threading.Event | None = None) -> Answer:
    """Send these bytes as they are; what comes back until the backend closes the connection."""
    with socket.create_connection(("127.0.0.1", backend.port), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return received(connection)


def answered(connection: socket.socket) -> bytes:
    """One answer that says how long it is; the connection stays open."""
    with connection.makefile("rb") as file:
        status = file.readline()
        size = 0
        while line := file.readline().strip():
            name, _, value = line.lower().partition(b":")
            size = int(value) if name == b"content-length" else size
        file.read(size)
    return status


def received(connection: socket.socket) -> Answer:
    got = b""
    while piece := connection.recv(65536):
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return Answer(int(lines[0].split()[1]) if head else 0, headers, body)


# too slow


def test_a_head_that_never_ends_is_given_up(small: Running) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", small.port), timeout=10) as connection:
        connection.sendall(HEAD)
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                try:
                    connection.sendall(b"X-A: b\r\n")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            received(connection).refused(408)
        except ConnectionResetError:
            pass  # what we sent after its answer was refused
        finally:
            stop.set()
            dripping.join()
    # a drop now and then does not buy more time
    assert time.monotonic() - began < 8


def test_a_body_that_never_ends_is_given_up(small: Running) -> None:
    raw(small, HEAD + b"Content-Length: 100\r\nConnection: close\r\n\r\n", b"{").refused(408)


def test_a_body_that_nobody_reads_is_not_waited_for_either(small: Running) -> None:
    answer = raw(small, b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
    answer.refused(404)


@pytest.mark.parametrize("said", [b"", b"\r\n", b"\r\n\r\n", b"GET"])
def test_who_says_nothing_is_not_waited_for(small: Running, said: bytes) -> None:
    answer = raw(small, said)
    assert answer.status in (0, 408)


def test_a_connection_may_be_used_again_after_a_pause(small: Running) -> None:
    request = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", small.port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(request)
            assert answered(connection).startswith(b"HTTP/1.1 200")
            # longer than a head may take: the pause between requests is not part of one
            time.sleep(0.6)


def test_who_does_not_read_is_not_waited_for(small: Running, run_id: str) -> None:
    peer = small.peer("c")
    peer.ingest(started(run_id, "f"))
    for _ in range(60):
        lines = [{"type": "log", "run": run_id, "text": "x" * 9_000} for _ in range(10)]
        peer.ingest(*lines)
    peer.ingest(ended(run_id, 0))
    size = len(peer.get(f"/api/runs/{run_id}/logs?limit=10000").body)
    assert size > 5_000_000
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", small.port))
        path = f"/api/runs/{run_id}/logs?limit=10000".encode()
        connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        here = connection.getsockname()
        served = small.server._uvicorn.server_state.connections
        wait_until(lambda: any(one.client == here for one in list(served)))
        wait_until(lambda: all(one.client != here for one in list(served)))
        got = 0
        with pytest.raises(ConnectionResetError):
            while piece := connection.recv(1 << 20):
                got += len(piece)
            raise ConnectionResetError  # closed in order, but before the end
        assert got < size


# too much


def test_an_address_has_a_longest(small: Running) -> None:
    raw(small, b"GET /" + b"a" * 1_100 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n").refused(414)
    raw(small, b"GET /" + b"a" * 700, b"a" * 700, b" HTTP/1.1\r\n").refused(414)
    small.peer().get(f"/{'a' * 900}").refused(404)


def test_headers_have_a_size_and_a_number(small: Running) -> None:
    long = b"X-A: " + b"a" * 4_100 + b"\r\n\r\n"
    raw(small, HEAD + long).refused(431)
    raw(small, HEAD + b"X-A: b\r\n" * 40 + b"\r\n").refused(431)
    small.peer().get("/api/health", headers={"X-A": "a" * 3_000}).ok()


def test_a_header_without_end_is_not_kept(small: Running) -> None:
    raw(small, HEAD + b"X-A: ", *[b"a" * 1_000] * 8).refused(431)


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9\r\n\r\n",
    ],
)
def test_what_is_not_http_is_400(small: Running, sent: bytes) -> None:
    raw(small, sent).refused(400)


def test_a_body_has_a_size(small: Running) -> None:
    peer = small.peer("c")
    large = json.dumps({"name": "f", "description": "x" * 100_000}).encode()
    peer.post("/api/flows", large).refused(413)
    # nothing says beforehand how long it will be
    connection = http.client.HTTPConnection("127.0.0.1", small.port, timeout=10)
    connection.request("POST", "/api/flows", iter([b" " * 50_000] * 3), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    peer.post("/login", b"token=" + b"x" * 20_000).refused(413)


@pytest.mark.parametrize("path", ["/api/ingest", "/api/flows"])
def test_a_compressed_bomb_is_not_inflated(small: Running, path: str) -> None:
    bomb = gzip.compress(b" " * 50_000_000, mtime=0)
    assert len(bomb) < 100_000
    headers = {"Content-Encoding": "gzip"}
    small.peer("c").post(path, bomb, headers=headers).refused(413)
    small.peer("c").post(path, bomb[:-10], headers=headers).refused(413)


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"not gzip", "gzip", 400),
        (gzip.compress(b"{}", mtime=0)[:-4], "gzip", 400),
        (gzip.compress(b"{}", mtime=0) * 2, "gzip", 400),
        (b"{}", "br", 415),
        (b"{}", "gzip, gzip", 415),
    ],
)
def test_a_body_is_what_its_encoding_says(
    small: Running, body: bytes, encoding: str, status: int
) -> None:
    headers = {"Content-Encoding": encoding}
    small.peer("c").post("/api/flows", body, headers=headers).refused(status)


def test_a_batch_has_a_size(small: Running, run_id: str) -> None:
    events = [{"seq": n, "type": "log", "run": run_id, "text": "x"} for n in range(1, 12)]
    peer = small.peer("c")
    peer.post("/api/ingest", {"events": events}).refused(413)
    assert peer.post("/api/ingest", {"events": events[:10]}).ok()["committed"] == 10


def test_long_polls_have_places(small: Running) -> None:
    polls = []
    try:
        for session in ("a", "a", "b"):
            connection = socket.create_connection(("127.0.0.1", small.port), timeout=10)
            connection.sendall(
                b"GET /api/execution-requests?slots=0 HTTP/1.1\r\nHost: localhost\r\n"
                b"X-Perfect-Client: c\r\nX-Perfect-Session: " + session.encode() + b"\r\n\r\n"
            )
            polls.append(connection)
        wait_until(lambda: small.server.backend.polls.open == 3)
        for session in ("a", "x"):
            answer = small.peer("c", session).get("/api/execution-requests?slots=0")
            answer.refused(429)
            assert answer.headers["retry-after"] == "1"
    finally:
        for connection in polls:
            connection.close()
    wait_until(lambda: small.server.backend.polls.open == 0)


def test_places_are_for_all_and_for_each() -> None:
    places = Places("streams", total=3, each=2)
    with places.take("a"):
        with places.take("a"), pytest.raises(TooMany, match="you have 2"), places.take("a"):
            pass
        with places.take("b"), places.take("c"), pytest.raises(TooMany, match="3 streams"):
            with places.take("d"):
                pass
    assert places.open == 0 and not places._taken


def test_event_streams_have_places(launch: Callable[..., Running]) -> None:
    backend = launch(limits=Limits(streams_each=1))
    with socket.create_connection(("127.0.0.1", backend.port), timeout=10) as connection:
        connection.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        answer = backend.peer().get("/api/stream")
        answer.refused(429)
        assert answer.headers["retry-after"]
    wait_until(lambda: backend.server.backend.streams.open == 0)


def test_connections_that_ask_for_nothing_make_room_for_others(
    launch: Callable[..., Running],
) -> None:
    backend = launch(limits=Limits(idle=5))
    address = ("127.0.0.1", backend.port)
    with contextlib.ExitStack() as stack:

        def connect(said: bytes = b"") -> socket.socket:
            connection = stack.enter_context(socket.create_connection(address, timeout=10))
            connection.sendall(said)
            return connection

        stream = connect(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stream.recv(1000).startswith(b"HTTP/1.1 200")
        kept = connect(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answered(kept).startswith(b"HTTP/1.1 200")
        loris = [connect(b"GET / HTTP/1.1\r\nX: ") for _ in range(20)]
        # somebody with a request is served as ever
        backend.peer().get("/api/health").ok()
        assert all(is_closed(one) for one in [kept, *loris[:15]])
        wait_until(lambda: len(idle_of(backend)) <= 5)
        # what has been asked is not idle
        assert backend.server.backend.streams.open == 1
    wait_until(lambda: not idle_of(backend))


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(10) == b""
    except ConnectionResetError:  # what it had sent was not read before
        return True


def idle_of(backend: Running) -> dict[object, None]:
    protocol = backend.server._uvicorn.config.http_protocol_class
    assert issubclass(protocol, Connection)
    return protocol.idle  # type: ignore[return-value]


def test_logins_that_are_sent_slowly_have_places(launch: Callable[..., Running]) -> None:
    backend = launch(token="secret", limits=Limits(logins_each=2))
    address = ("127.0.0.1", backend.port)
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            slow = stack.enter_context(socket.create_connection(address, timeout=10))
            slow.sendall(head)
        wait_until(lambda: backend.server.backend.logins.open == 2)
        answer = backend.peer().post("/login", b"token=secret", headers=FORM)
        answer.refused(429)
        assert answer.headers["retry-after"]
        # clients don't log in
        bearer = {"Authorization": "Bearer secret"}
        backend.peer().get("/api/engine/runs", headers=bearer).ok()
    wait_until(lambda: backend.server.backend.logins.open == 0)
    assert backend.peer().post("/login", b"token=secret", headers=FORM).status == 303


# not what it should be

WRONG = {
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"1",
    "deep": b'{"name": "f", "parameters": ' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}",
    "deeper than any parser goes": b'{"name": "f", "parameters": ' + b"[" * 50_000,
    "NaN": b'{"name": "f", "tasks": [{"name": "t", "weight": NaN}]}',
    "Infinity": b'{"name": "f", "tasks": [{"name": "t", "weight": Infinity}]}',
    "beyond a double": b'{"name": "f", "tasks": [{"name": "t", "weight": 1e999}]}',
    "a huge integer": b'{"name": "f", "tasks": [{"name": "t", "estimatedTime": '
    + b"9" * 400
    + b"}]}",
    "a lone surrogate": b'{"name": "\\ud800"}',
    "a swapped pair": b'{"name": "\\udc00\\ud800"}',
    "an encoded surrogate": b'{"name": "\xed\xa0\x80"}',
    "invalid UTF-8": b'{"name": "\xff\xfe"}',
    "overlong UTF-8": b'{"name": "\xc0\xaf"}',
    "a raw control character": b'{"name": "a\nb"}',
    "a NUL byte": b'{"name": "a\x00b"}',
    "a byte order mark in UTF-16": '{"name": "f"}'.encode("utf-16"),
    "a name of another type": b'{"name": ["f"]}',
    "a blank name": b'{"name": "  "}',
    "a long name": b'{"name": "' + b"x" * 201 + b'"}',
    "a long tag": b'{"name": "f", "tags": {"a": "' + b"x" * 201 + b'"}}',
    "many tags": json.dumps({"name": "f", "tags": {str(n): "" for n in range(51)}}).encode(),
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_a_wrong_body_is_400(shared: Running, body: bytes) -> None:
    shared.peer("c").post("/api/flows", body).refused(400)


@pytest.mark.parametrize(
    "body",
    [
        WRONG["no JSON"],
        WRONG["deeper than any parser goes"],
        WRONG["a lone surrogate"],
        WRONG["a NUL byte"],
    ],
)
def test_a_wrong_batch_is_400(shared: Running, body: bytes) -> None:
    shared.peer("c").post("/api/ingest", b'{"events": [' + body + b"]}").refused(400)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "text/html; x", "*"]
)
def test_a_body_that_says_it_is_something_else_is_415(shared: Running, kind: str) -> None:
    for path in ("/api/flows", "/api/ingest"):
        headers = {"Content-Type": kind}
        shared.peer("c").post(path, {"name": "f"}, headers=headers).refused(415)
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    shared.peer("c").post("/api/flows", {"name": "f"}, headers=headers).ok()


def test_of_a_name_that_is_there_twice_the_last_counts(shared: Running) -> None:
    answer = shared.peer("c").post("/api/flows", b'{"name": "first", "name": "last"}')
    assert answer.ok()["flow"]["name"] == "last"


def test_a_nul_in_text_is_made_visible(shared: Running, run_id: str) -> None:
    peer = shared.peer("c")
    peer.post("/api/flows", b'{"name": "a\\u0000b"}').ok()
    peer.ingest(started(run_id, "f"), {"type": "log", "run": run_id, "text": "a\x00b\x1b[2J"})
    assert peer.run(run_id)["logs"] == ["a␀b\x1b[2J"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/%00",
        "/api/runs/a%0ab",
        "/api/runs/%7f",
        "/api/runs?q=%00",
        "/api/runs?q=a%1fb",
        "/reports/%00.html",
        "/%0d%0aSet-Cookie:x",
    ],
)
def test_control_characters_in_an_address_are_400(shared: Running, path: str) -> None:
    shared.peer().get(path).refused(400)


@pytest.mark.parametrize("found", ["%ed%a0%80", "%ff", "%c0%af", "%F0%9F%98%80", "%EF%BF%BE"])
def test_other_strange_characters_are_just_not_found(shared: Running, found: str) -> None:
    shared.peer().get(f"/api/runs/{found}").refused(404)
    assert shared.peer().get(f"/api/runs?q={found}").ok()["runs"] == []


def test_tabs_and_lines_may_be_searched_for(shared: Running) -> None:
    assert shared.peer().get("/api/runs?q=%09%0a%0d").ok()["runs"] == []


@pytest.mark.parametrize(
    "outside",
    [
        "../{db}",
        "..%2f{db}",
        "%2e%2e%2f{db}",
        "%2e%2e/{db}",
        "..%5c{db}",
        "%252e%252e%252f{db}",
        "....//{db}",
        "%c0%ae%c0%ae/{db}",
        "..;/{db}",
        "%2f{whole}",
        "file:%2f%2f{whole}",
    ],
)
@pytest.mark.parametrize(
    "below", ["/reports/", "/runs/", "/", "/assets/", "/style.css/", "/api/reports/run/"]
)
def test_no_path_leads_to_a_file(shared: Running, below: str, outside: str) -> None:
    file = Path("/etc/hostname")
    for name in (f"{outside}", f"{outside}.html"):
        path = below + name.format(db=str(file).lstrip("/"), whole=str(file).replace("/", "%2f"))
        shared.peer().get(path).refused(404)


# how limits are set


def test_limits_are_set_by_name() -> None:
    assert Limits.of(["body=1000", "polls=7"]) == Limits(body=1000, polls=7)
    for wrong, said in (
        ("x=1", "header_count"),
        ("body", "not a number"),
        ("body=0", "not a number"),
        ("body=-1", "not a number"),
        ("body=1e9", "not a number"),
        ("body=²", "not a number"),
        ("=", "NAME=VALUE"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            Limits.of([wrong])


def test_the_handshake_announces_them(small: Running) -> None:
    limits = small.peer().get("/api/version").ok()["limits"]
    assert (limits["body"], limits["events"], limits["url"]) == (100_000, 10, 1_000)
