"""The documented client: over a real socket, against the stand-in, and over the mock transport."""

from __future__ import annotations

import gzip
import inspect
import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from perfect import __version__
from perfect.api import ExecutionRequest, MockPerfectClient, PerfectAPIClient, encode, quote
from perfect.transport import MockTransport, UrllibTransport
from perfect.reporting import shake_hands
from perfect.errors import BackendRefused, BackendUnreachable
from perfect.states import TaskState
from tests.standins.documented_backend import DocumentedBackend


@pytest.fixture
def backend() -> Iterator[DocumentedBackend]:
    with DocumentedBackend() as backend:
        yield backend


@pytest.fixture
def client(backend: DocumentedBackend) -> Iterator[PerfectAPIClient]:
    client = PerfectAPIClient(backend.url, timeout=10)
    yield client
    client.close()


@contextmanager
def server(*answers: bytes, hold: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """A raw server that gives these answers, one a connection; (its URL, what it was sent)."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answer in answers:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(10)
                    # all of it: what is left unread when this closes would reset the connection
                    with connection.makefile("rb") as file:
                        head, length = b"", 0
                        while (line := file.readline()).strip():
                            head += line
                            name, _, value = line.partition(b":")
                            length = int(value) if name.lower() == b"content-length" else length
                        got.append(head + line + file.read(length))
                    connection.sendall(answer)
                    if hold:
                        connection.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", got
    thread.join(10)


def http_answer(
    body: bytes, *headers: str, status: str = "200 OK", length: int | None = None
) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


# The documented methods against a documented backend


def test_a_run_by_hand(backend: DocumentedBackend, client: PerfectAPIClient) -> None:
    assert client.register_flow({"name": "by hand", "tasks": [{"name": "one"}]}) is True
    flow_id = backend.flows[0].id
    run_id = client.request("POST", f"/api/engine/run/{flow_id}", {})["runId"]
    assert client.send_heartbeat() is True
    assert client.update_task_state(run_id, 0, "RUNNING", 0, task_name="one", estimated_time=5)
    assert client.send_log(run_id, "a line") is True
    result = {"passed": True, "note": "", "table": [{"a": math.nan}]}
    assert client.update_task_state(
        run_id, 0, TaskState.COMPLETED, 100, duration_ms=3, result=result, crucial_pass=False
    )
    assert client.complete_run(run_id, 1) is True
    run = backend.run(run_id)
    assert (run.state, run.logs, run.tasks[0].name) == ("COMPLETED", ["a line"], "one")
    assert (run.tasks[0].duration, run.tasks[0].crucial) == (3, False)
    assert run.tasks[0].result == {"passed": True, "note": "", "table": [{"a": "nan"}]}


def test_a_refusal_is_false(backend: DocumentedBackend, client: PerfectAPIClient) -> None:
    assert client.register_flow({"name": ""}) is False
    assert client.send_log("no such run", "a line") is False
    assert client.update_task_state("no such run", 0, "RUNNING") is False
    assert client.complete_run("no such run", 0) is False
    assert client.send_log("../../api/heartbeat?x=#", "a line") is False
    assert [request.path for request in backend.journal][-1] == (
        "/api/flows/..%2F..%2Fapi%2Fheartbeat%3Fx%3D%23/logs"
    )


def test_nobody_there_is_false() -> None:
    client = PerfectAPIClient("http://127.0.0.1:9", timeout=5)
    assert client.register_flow({"name": "x"}) is False
    assert client.send_heartbeat() is False
    with pytest.raises(BackendUnreachable):
        client.request("GET", "/api/version")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999", "localhost:3000", "http://[::1", "http://a..b:1", "nothing"]
)
def test_an_impossible_address_is_an_answer_that_never_comes(url: str) -> None:
    """`configure` refuses it; here nothing else than the documented False may come."""
    try:
        client = PerfectAPIClient(url, timeout=5)
    except ValueError:
        return  # refused at once is as good
    assert client.send_heartbeat() is False


def test_signatures_are_the_documented_ones() -> None:
    def parameters(function: Callable[..., Any]) -> list[str]:
        return list(inspect.signature(function).parameters)

    assert parameters(PerfectAPIClient.register_flow) == ["self", "flow_definition"]
    assert parameters(PerfectAPIClient.send_log) == ["self", "run_id", "log_message"]
    assert parameters(PerfectAPIClient.update_task_state)[:5] == [
        *("self", "run_id", "task_index", "state", "progress")
    ]
    assert parameters(PerfectAPIClient.send_heartbeat) == ["self"]
    assert parameters(PerfectAPIClient.listen_for_executions) == ["self", "poll_interval"]


def test_requests_are_listened_for(backend: DocumentedBackend) -> None:
    got: list[ExecutionRequest] = []
    done = threading.Event()

    def handle(request: ExecutionRequest) -> None:
        got.append(request)
        done.set()

    client = PerfectAPIClient(backend.url, execution_handler=handle)
    assert client.register_flow({"name": "asked for"})
    listening = threading.Thread(target=client.listen_for_executions)
    listening.start()
    run_id = backend.trigger("asked for", "release")
    assert done.wait(10)
    client.close()  # breaks the next poll off
    listening.join(5)
    assert not listening.is_alive()
    assert got == [ExecutionRequest(run_id, "asked for", "release")]


def test_listening_without_an_answer_does_not_spin() -> None:
    client = MockPerfectClient()
    listening = threading.Thread(target=client.listen_for_executions, args=(0.05,))
    listening.start()
    time.sleep(0.3)
    client.close()
    listening.join(5)
    assert not listening.is_alive()
    assert 1 <= len(client.requests) < 20


def test_a_handler_that_raises_does_not_end_the_listening(backend: DocumentedBackend) -> None:
    seen = threading.Semaphore(0)

    def handle(request: ExecutionRequest) -> None:
        seen.release()
        raise ValueError("of the user")

    client = PerfectAPIClient(backend.url, execution_handler=handle)
    listening = threading.Thread(target=client.listen_for_executions)
    listening.start()
    for _ in range(2):
        client.register_flow({"name": "asked for"})
        backend.trigger("asked for")
        assert seen.acquire(timeout=10)
    client.close()
    listening.join(5)
    assert not listening.is_alive()


# What is sent


def test_headers_say_who_is_speaking(backend: DocumentedBackend) -> None:
    client = PerfectAPIClient(backend.url, "team", session_id="s-1", api_key="key")
    client.send_heartbeat()
    headers = backend.journal[-1].headers
    assert headers["x-perfect-client"] == "team"
    assert headers["user-agent"].startswith(f"perfect-client/{__version__} (")
    assert headers["user-agent"].endswith(f"; pid {os.getpid()})")
    assert headers["x-perfect-session"] == "s-1"
    assert headers["authorization"] == "Bearer key"
    PerfectAPIClient(backend.url).send_heartbeat()
    assert "authorization" not in backend.journal[-1].headers
    assert len(backend.journal[-1].headers["x-perfect-session"]) == 36


def test_compressed_bytes_are_declared() -> None:
    with server(http_answer(b"{}")) as (url, got):
        PerfectAPIClient(url).request("POST", "/x", gzip.compress(b"{}"))
    assert b"content-encoding: gzip" in got[0].lower()


def test_a_post_without_a_body_has_a_length() -> None:
    with server(http_answer(b"{}")) as (url, got):
        assert PerfectAPIClient(url).send_heartbeat()
    assert b"content-length: 0" in got[0].lower()


@pytest.mark.parametrize(
    "body", [{"a": math.nan}, {"a": {1}}, {"a": "\ud800"}, {1: b"x"}, [object]]
)
def test_whatever_is_sent_is_json(body: Any) -> None:
    data = encode(body)
    json.loads(data, parse_constant=lambda name: pytest.fail(name))
    data.decode()
    assert b"\\ud8" not in data  # a lone surrogate is refused by strict readers


@pytest.mark.parametrize(
    ("segment", "quoted"),
    [("a/b", "a%2Fb"), ("..", ".."), ("a b?#", "a%20b%3F%23"), ("ü", "%C3%BC"), ("\r\n", "%0D%0A")],
)
def test_segments_are_quoted(segment: str, quoted: str) -> None:
    assert quote(segment) == quoted


# What comes back


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (http_answer(b"<html>", status="404 Not Found"), 404, "not JSON: <html>"),
        (http_answer(b'{"error": "no", "detail": [1]}', status="409 C"), 409, "no"),
        (http_answer(b'{"detail": "why"}', status="422 C"), 422, "why"),
        (http_answer(b"[]", status="500 E"), 500, "no reason given"),
        (http_answer(b"", status="503 S"), 503, "no reason given"),
        (http_answer(b"OK"), 200, "not JSON: OK"),
        (http_answer(b"\xff\xfe"), 200, "not JSON"),
        (http_answer(b"[" * 100_000), 200, "not JSON"),
        (http_answer(b"", "Location: http://127.0.0.1:9/", status="302 Found"), 302, ""),
        (http_answer(b"", "Location: /other", status="307 T"), 307, ""),
        (http_answer(b"", "Location: http://[", status="308 P"), 308, ""),
    ],
)
def test_refusals_and_redirects(answer: bytes, status: int, says: str) -> None:
    """A redirect would carry the token elsewhere."""
    with server(answer, http_answer(b'{"followed": true}')) as (url, got):
        client = PerfectAPIClient(url, api_key="secret")
        with pytest.raises(BackendRefused) as caught:
            client.request("POST", "/x", {"a": 1})
        assert caught.value.status == status and says in str(caught.value)
        assert len(got) == 1
        client.send_heartbeat()  # lets the server end


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2.5", 2.5),
        ("0", 0.0),
        ("-3", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("soon", None),
    ],
)
def test_how_long_to_wait(header: str, seconds: float | None) -> None:
    with server(http_answer(b"{}", f"retry-after: {header}", status="503 Busy")) as (url, _):
        with pytest.raises(BackendRefused) as caught:
            PerfectAPIClient(url).request("GET", "/x")
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
    ids=["nothing", "nonsense", "status", "cut short", "cut chunk", "many headers", "long header"],
)
def test_an_answer_that_is_none_is_no_answer(answer: bytes) -> None:
    with server(answer) as (url, _):
        with pytest.raises(BackendUnreachable):
            PerfectAPIClient(url).request("GET", "/x")


def test_a_handshake_that_was_cut_short_settles_nothing() -> None:
    body = json.dumps({"name": "perfect", "version": "1", "protocol": 2}).encode()
    with server(http_answer(body[:12], length=len(body)), http_answer(body)) as (url, _):
        client = PerfectAPIClient(url)
        with pytest.raises(BackendUnreachable):
            shake_hands(client)
        assert shake_hands(client).native


@pytest.mark.parametrize(
    ("answer", "native"),
    [
        (http_answer(b'{"name": "perfect", "protocol": 2}'), True),
        (http_answer(b'{"name": "perfect", "protocol": 3}'), False),
        (http_answer(b'{"name": "other", "protocol": 2}'), False),
        (http_answer(b"<html>all routes</html>"), False),
        (http_answer(b"null"), False),
        (http_answer(b"<html>", status="404 Not Found"), False),
        (http_answer(b'{"detail": "Not Found"}', status="404 Not Found"), False),
    ],
)
def test_what_the_handshake_settles(answer: bytes, native: bool) -> None:
    with server(answer) as (url, _):
        assert shake_hands(PerfectAPIClient(url)).native is native


@pytest.mark.parametrize("status", ["401 U", "403 F", "500 E", "502 B", "503 S", "429 T"])
def test_what_the_handshake_leaves_open(status: str) -> None:
    with server(http_answer(b"<html>", status=status)) as (url, _):
        with pytest.raises(BackendRefused):
            shake_hands(PerfectAPIClient(url))


# Time, threads, resources


def test_every_request_has_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = PerfectAPIClient(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
        with pytest.raises(BackendUnreachable, match="timed out"):
            client.request("GET", "/x")
        assert client.send_heartbeat() is False
        with pytest.raises(BackendUnreachable):
            client.poll_execution(timeout=0.2)


def test_closing_breaks_a_poll_off(backend: DocumentedBackend) -> None:
    client = PerfectAPIClient(backend.url)
    failed = threading.Event()

    def poll() -> None:
        with pytest.raises(BackendUnreachable):
            client.poll_execution()
        failed.set()

    thread = threading.Thread(target=poll)
    thread.start()
    backend.wait_for(lambda: bool(backend.requests("GET", "execution-requests")))
    client.close()
    assert failed.wait(5)
    thread.join()
    assert client.send_heartbeat() is False


def test_closing_while_a_connection_is_made_breaks_that_off(
    backend: DocumentedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = PerfectAPIClient(backend.url)
    connect = socket.create_connection

    def closing(*args: Any, **kwargs: Any) -> socket.socket:
        made = connect(*args, **kwargs)
        client.close()
        return made

    monkeypatch.setattr(socket, "create_connection", closing)
    began = time.monotonic()
    with pytest.raises(BackendUnreachable):
        client.poll_execution(timeout=5)
    assert time.monotonic() - began < 4


def test_connections_are_not_kept() -> None:
    """Also where the answer does not say `Connection: close`."""
    with server(*[http_answer(b"null")] * 5) as (url, _):
        transport = UrllibTransport(url)
        for _ in range(5):
            transport.send("GET", "/x", None, {}, 5)
    assert len(tuple(transport.open)) == 0
    with pytest.raises(BackendUnreachable):
        transport.send("GET", "/x", None, {}, 5)  # refused
    assert len(tuple(transport.open)) == 0


def test_one_client_serves_many_threads(
    backend: DocumentedBackend, client: PerfectAPIClient
) -> None:
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(client.send_heartbeat())) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 16


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_loopback_goes_through_no_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(http_answer(b"{}")) as (proxy, got):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        assert PerfectAPIClient(f"http://{host}:9", timeout=5).send_heartbeat() is False
        assert PerfectAPIClient(f"http://{host}", timeout=5).request is not None
        assert got == []
        PerfectAPIClient(proxy).send_heartbeat()  # lets the server end


def test_other_hosts_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(http_answer(b"{}")) as (proxy, got):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        assert PerfectAPIClient("http://backend.invalid:3000", timeout=5).send_heartbeat()
    assert got[0].startswith(b"POST http://backend.invalid:3000/api/heartbeat")


# Requests


@pytest.mark.parametrize(
    "answer", [None, [], "text", 3, {}, {"run_id": 3}, {"run_id": None}, {"cancel": "id"}]
)
def test_an_answer_that_hands_out_nothing(answer: Any) -> None:
    assert ExecutionRequest.from_answer(answer) is None


def test_an_answer_that_hands_out_a_run() -> None:
    assert ExecutionRequest.from_answer({"run_id": "r"}) == ExecutionRequest("r", "")
    full = {
        "run_id": "r",
        "flow_name": "f",
        "configuration": "release",
        "parameters": {"a": 1},
        "lease": "l",
        "more": 1,
    }
    assert ExecutionRequest.from_answer(full) == ExecutionRequest(
        "r", "f", "release", {"a": 1}, "l"
    )
    odd = {"run_id": "r", "flow_name": 3, "configuration": None, "parameters": [1], "lease": 7}
    assert ExecutionRequest.from_answer(odd) == ExecutionRequest("r", "3", "development", {}, "7")


# Without a network


def test_the_mock_client_keeps_what_it_was_asked() -> None:
    client = MockPerfectClient("team")
    assert client.register_flow({"name": "f"}) and client.send_heartbeat()
    assert client.update_task_state("r", 0, "RUNNING", 5)
    assert client.send_log("r", "line") and client.complete_run("r", 1)
    assert client.poll_execution() is None
    assert client.requests == [
        ("POST", "/api/flows", {"name": "f"}),
        ("POST", "/api/heartbeat", None),
        ("POST", "/api/runs/r/tasks/0/state", {"state": "RUNNING", "progress": 5}),
        ("POST", "/api/flows/r/logs", {"log": "line"}),
        ("POST", "/api/runs/r/complete", {"taskCount": 1}),
        ("GET", "/api/execution-requests?slots=1", None),
    ]


def test_the_mock_transport_answers_like_a_documented_backend() -> None:
    client = PerfectAPIClient(transport=MockTransport())
    flow = client.request("POST", "/api/flows", {"name": "f"})["flow"]
    assert flow["name"] == "f" and flow["id"]
    assert client.request("POST", f"/api/engine/run/{flow['id']}", {})["runId"]
    assert not shake_hands(client).native
