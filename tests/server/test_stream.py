"""Watching what happens as it happens."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perfect.server.engine.stream import Hub, Topic
from perfect.server.routes import stream as stream_routes
from perfect.server.settings import Limits
from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until
from tests.server.streams import Reader


@pytest.fixture
def watch() -> Iterator[Callable[..., Reader]]:
    opened: list[Reader] = []

    def start(backend: Running, run: str | None = None, last: str | None = None) -> Reader:
        opened.append(Reader(backend.port, run, last))
        return opened[-1]

    yield start
    for reader in opened:
        reader.close()


def _task(run: str, index: int, state: str, **more: Any) -> dict[str, Any]:
    return {"type": "task", "run": run, "index": index, "state": state, **more}


def _log(run: str, text: str) -> dict[str, Any]:
    return {"type": "log", "run": run, "stream": "stdout", "text": text}


def test_the_list_hears_of_runs_and_flows_but_not_of_tasks_and_lines(
    launch: Callable[..., Running], watch: Callable[..., Reader], run_id: str
) -> None:
    backend = launch()
    stream = watch(backend)
    assert stream.response.status == 200
    assert stream.response.getheader("Content-Type") == "text/event-stream; charset=utf-8"
    assert stream.response.getheader("X-Accel-Buffering") == "no"
    assert "no-cache" in (stream.response.getheader("Cache-Control") or "")
    ready = stream.next()
    assert ready is not None and ready.kind == "ready" and ready.id
    peer = backend.peer("c")
    peer.ingest(started(run_id, "f", "a"), _task(run_id, 0, "RUNNING"), _log(run_id, "line"))
    peer.ingest(_task(run_id, 0, "COMPLETED"), ended(run_id, 1))
    events = stream.until("run", id=run_id, state="COMPLETED")
    assert {event.kind for event in events} <= {"run", "flow", "client"}
    assert "flow" in {event.kind for event in events}
    # what is told is what can be asked for
    asked = peer.get("/api/runs").ok()["runs"][0]
    assert events[-1].data == asked


def test_the_page_of_a_run_hears_of_its_tasks_and_lines_only(
    launch: Callable[..., Running], watch: Callable[..., Reader], run_id: str
) -> None:
    backend = launch()
    peer, other = backend.peer("c"), str(uuid.uuid4())
    peer.ingest(started(run_id, "f", "a", "b"), started(other, "g"), _log(run_id, "before"))
    stream = watch(backend, run_id)
    stream.until("ready")
    peer.ingest(_log(other, "elsewhere"), ended(other, 0))
    peer.ingest(_task(run_id, 0, "RUNNING", started=1), _log(run_id, "first"))
    seen = stream.until("log")
    assert [line["text"] for line in seen[-1].data["lines"]] == ["first"]
    assert seen[-1].data["lines"][0]["seq"] == 2 and seen[-1].data["skipped"] == 0
    peer.ingest(ended(run_id, 2, "FAILED"))
    seen += stream.until("run", state="FAILED")
    assert {event.kind for event in seen} == {"task", "log", "run"}
    assert all(event.data.get("runId", event.data.get("id")) == run_id for event in seen)
    told = {t["index"]: t["state"] for e in seen if e.kind == "task" for t in e.data["tasks"]}
    # also what the end of the run did to tasks that nobody reported on
    assert told == {t["index"]: t["state"] for t in peer.run(run_id)["tasks"]}
    assert told == {0: "FAILED", 1: "CANCELLED"}


def test_documented_requests_are_seen_as_well(
    launch: Callable[..., Running], watch: Callable[..., Reader]
) -> None:
    backend = launch()
    peer = backend.peer()
    run = peer.begin(peer.register("f", "a")["id"])
    stream = watch(backend, run)
    stream.until("ready")
    peer.task(run, 0, "RUNNING").ok()
    peer.post(f"/api/flows/{run}/logs", {"log": "hello"}).ok()
    peer.task(run, 0, "COMPLETED").ok()
    peer.complete(run, 1).ok()
    kinds = {event.kind for event in stream.until("run", state="COMPLETED")}
    assert kinds == {"task", "log", "run"}
    everything = watch(backend)
    everything.until("ready")
    peer.send("DELETE", f"/api/runs/{run}").ok()
    everything.until("run", id=run, deleted=True)


def test_a_stream_that_broke_off_goes_on_where_it_was(
    launch: Callable[..., Running], watch: Callable[..., Reader], run_id: str
) -> None:
    backend = launch()
    peer = backend.peer("c")
    peer.ingest(started(run_id, "f"))
    stream, keeper = watch(backend, run_id), watch(backend, run_id)
    keeper.until("ready")
    stream.until("ready")
    peer.ingest(_log(run_id, "seen"))
    stream.until("log")
    stream.close()
    peer.ingest(_log(run_id, "missed"))
    keeper.until("run", logLines=2)
    again = watch(backend, run_id, stream.last)
    assert not [e for e in again.until("log") if e.kind == "reset"]
    again.close()
    # what a page has not seen because nobody was there is kept for it as well
    keeper.close()
    wait_until(lambda: not len(backend.server.backend.news.hub))
    peer.ingest(_log(run_id, "alone"))
    lines = watch(backend, run_id, keeper.last).until("log")[-1].data["lines"]
    assert [line["text"] for line in lines] == ["alone"]


@pytest.mark.parametrize("last", ["elsewhere-1", "x", "-", "1-2-3", "9" * 40, "ff-²"])
def test_what_cannot_be_resumed_is_reset(
    launch: Callable[..., Running], watch: Callable[..., Reader], last: str
) -> None:
    stream = watch(launch(), last=last.encode("utf-8").decode("latin-1"))
    reset = stream.until("reset")[-1]
    assert reset.data["reason"] and reset.id


def test_a_backend_that_was_started_again_says_reset(
    launch: Callable[..., Running], watch: Callable[..., Reader], run_id: str
) -> None:
    first = launch()
    stream = watch(first)
    stream.until("ready")
    first.peer("c").ingest(started(run_id, "f"))
    stream.until("run", id=run_id)
    stopping = threading.Thread(target=first.server.stop)
    stopping.start()
    while stream.next() is not None:  # the stream ends by itself
        pass
    stopping.join(20)
    assert not stopping.is_alive()
    watch(launch(), last=stream.last).until("reset")


def test_unknown_runs_and_too_many_streams_are_refused(
    launch: Callable[..., Running], watch: Callable[..., Reader]
) -> None:
    backend = launch(limits=Limits(streams=2))
    peer = backend.peer()
    peer.get("/api/stream?run=nothing").refused(404)
    readers = [watch(backend), watch(backend)]
    assert "Retry-After".lower() in {k.lower() for k in peer.get("/api/stream").headers}
    assert peer.get("/api/stream").refused(429)
    readers[0].close()
    wait_until(lambda: backend.server.backend.streams.open == 1)
    watch(backend).until("ready")


def test_many_tasks_are_told_in_few_events(
    launch: Callable[..., Running], watch: Callable[..., Reader], run_id: str
) -> None:
    backend = launch()
    peer = backend.peer("c")
    peer.ingest(started(run_id, "f"))
    page, everything = watch(backend, run_id), watch(backend)
    page.until("ready")
    everything.until("ready")
    for first in range(0, 2_000, 100):
        peer.ingest(
            *(
                _task(run_id, i, state)
                for i in range(first, first + 100)
                for state in ("RUNNING", "COMPLETED")
            )
        )
    peer.ingest(ended(run_id, 2_000))
    events = page.until("run", state="COMPLETED")
    told = {t["index"]: t["state"] for e in events if e.kind == "task" for t in e.data["tasks"]}
    assert told == dict.fromkeys(range(2_000), "COMPLETED")
    assert len(events) < 200
    assert len(everything.until("run", state="COMPLETED")) < 100


def test_a_flood_of_lines_is_told_by_its_end(
    launch: Callable[..., Running], watch: Callable[..., Reader], run_id: str
) -> None:
    backend = launch()
    peer = backend.peer("c")
    peer.ingest(started(run_id, "f"))
    stream = watch(backend, run_id)
    stream.until("ready")
    peer.ingest(*(_log(run_id, f"line {n}") for n in range(10_000)))
    seen = 0
    while seen < 10_000:
        event = stream.until("log")[-1]
        seen += event.data["skipped"] + len(event.data["lines"])
        assert event.data["lines"][-1]["text"] == f"line {seen - 1}"


def test_a_page_that_does_not_read_holds_nobody_up(
    launch: Callable[..., Running], watch: Callable[..., Reader], run_id: str
) -> None:
    backend = launch()
    peer = backend.peer("c")
    peer.ingest(started(run_id, "f"))
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect(("127.0.0.1", backend.port))
    stuck.sendall(f"GET /api/stream?run={run_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    reader = watch(backend, run_id)
    reader.until("ready")
    hub = backend.server.backend.news.hub
    while not hub.resets:
        for _ in range(10):
            peer.ingest(*(_log(run_id, "x" * 60_000) for _ in range(5)))
        # everyone else is told as before
        assert all(event.kind in ("log", "run") for event in reader.until("log"))
    peer.ingest(ended(run_id, 0))
    reader.until("run", state="COMPLETED")
    stuck.close()
    wait_until(lambda: len(hub) == 1)


def test_nothing_is_noted_while_nobody_watches(
    launch: Callable[..., Running], watch: Callable[..., Reader], run_id: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("perfect.server.engine.stream.LINGER", 0.2)
    backend = launch()
    noted = backend.server.backend._writer.watch
    assert not noted.on
    peer = backend.peer("c")
    peer.ingest(started(run_id, "f"))
    stream = watch(backend, run_id)
    stream.until("ready")
    assert noted.on and noted.runs
    stream.close()
    wait_until(lambda: not noted.on and not noted.runs)
    # and what was missed since can't be resumed
    peer.ingest(_log(run_id, "missed"))
    watch(backend, run_id, stream.last).until("reset")


def test_a_stream_on_which_nothing_happens_shows_that_it_is_there(
    launch: Callable[..., Running], watch: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stream_routes.KEEP_ALIVE == 15
    monkeypatch.setattr(stream_routes, "KEEP_ALIVE", 0.05)
    stream = watch(launch())
    stream.until("ready")
    # a comment, which a browser makes nothing of
    for _ in range(3):
        assert [stream.response.readline() for _ in range(2)] == [b": still here\n", b"\n"]


def test_clients_come_and_go(
    launch: Callable[..., Running], watch: Callable[..., Reader], run_id: str
) -> None:
    backend = launch(silence=2, poll=1)
    stream = watch(backend)
    stream.until("ready")
    peer = backend.peer("team")
    flow = peer.register("f")["id"]
    poller = threading.Thread(target=lambda: peer.poll(slots=3))
    poller.start()
    seen = stream.until("flow", id=flow, connected=True)
    listed = wait_until(
        lambda: [c for c in peer.get("/api/clients").ok()["clients"] if c["clientId"] == "team"]
    )
    session = listed[0]["sessions"][0]
    assert session["session"] == peer.headers["X-Perfect-Session"]
    assert (session["native"], session["protocol"], session["polling"]) == (True, 2, True)
    assert (session["freeSlots"], session["flows"], session["activeRuns"]) == (3, ["f"], [])
    assert peer.get("/api/engine/flows").ok()[0]["connected"] is True
    poller.join(20)
    seen += stream.until("client", clientId="team", sessions=[])
    stream.until("flow", id=flow, connected=False)
    assert peer.get("/api/engine/flows").ok()[0]["connected"] is False
    busy = backend.peer("team")
    busy.ingest(started(run_id, "f"))
    session = stream.until("client", clientId="team")[-1].data["sessions"][0]
    assert (session["activeRuns"], session["activeRunCount"]) == ([run_id], 1)


def test_who_comes_right_after_the_first_stream_began_is_told(
    launch: Callable[..., Running], watch: Callable[..., Reader]
) -> None:
    backend = launch()
    stream = watch(backend)
    stream.until("ready")
    backend.peer("early").register("f")
    stream.until("client", clientId="early", sessionCount=1)


def test_of_a_fleet_the_newest_are_told(
    launch: Callable[..., Running], watch: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfect.server.engine.news._MOST_SESSIONS", 3)
    backend = launch()
    stream = watch(backend)
    stream.until("ready")
    peers = [backend.peer("fleet") for _ in range(5)]
    for peer in peers:
        peer.register("f")
    told = stream.until("client", clientId="fleet", sessionCount=5)[-1].data["sessions"]
    assert [one["session"] for one in told] == [p.headers["X-Perfect-Session"] for p in peers[2:]]
    (listed,) = backend.peer().get("/api/clients").ok()["clients"][-1:]
    assert len(listed["sessions"]) == listed["sessionCount"] == 5


def test_a_ring_that_is_full_forgets_the_oldest() -> None:
    hub = Hub()
    stream = hub.open(Topic())
    stream.take()
    hub.publish("run", "r", b"{}")
    first = stream.take().split(b"\n")[0].removeprefix(b"id: ").decode()
    for _ in range(10_000):
        hub.publish("run", "r", b"{}")
        stream.take()
    hub.publish("run", "r", b"{}")
    assert b"event: reset" in hub.open(Topic(), first).take()
    # what is told to the page of another run has not passed it by
    assert b"event: run" not in hub.open(Topic("s", 2)).take()


@pytest.mark.parametrize(
    "streams", [20, pytest.param(200, marks=pytest.mark.soak)], ids=["small", "full"]
)
def test_many_streams_are_cheap(
    launch: Callable[..., Running], watch: Callable[..., Reader], run_id: str, streams: int
) -> None:
    backend = launch()
    peer = backend.peer("c")
    peer.ingest(started(run_id, "f"))
    before, began = _memory(), (time.process_time(), time.monotonic())
    readers = [watch(backend) for _ in range(streams)]
    for reader in readers:
        reader.until("ready")
    opened = time.process_time() - began[0]
    began = (time.process_time(), time.monotonic())
    for n in range(1_000):
        peer.ingest(_task(run_id, n, "COMPLETED"))
    peer.ingest(ended(run_id, 1_000))
    spent = time.process_time() - began[0]
    for reader in readers:
        assert len(reader.until("run", id=run_id, state="COMPLETED")) < 500
    print(
        f"{streams} streams: opened in {opened:.2f} s of CPU, {(_memory() - before) / 2**20:.1f} MiB; "
        f"1,000 batches {spent:.2f} s of CPU (peers and readers included)"
    )


def _memory() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_token_guards_the_stream(launch: Callable[..., Running]) -> None:
    peer = Peer(launch(token="secret").port)
    for path in ("/api/stream", "/api/clients", "/metrics", "/api/notifications"):
        peer.get(path).refused(401)
