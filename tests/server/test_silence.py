"""Clients that fall silent, and what they may still say later."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perfect.server.store import audit, open_database
from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until


@pytest.fixture
def backend(launch: Callable[..., Running]) -> Running:
    return launch(silence=0.5, sweep=0.05)


@contextmanager
def beating(peer: Peer) -> Iterator[None]:
    """Heartbeats in the background."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(0.1):
            peer.post("/api/heartbeat").ok()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(20)


def _ended(peer: Peer, run: str) -> Any:
    return wait_until(lambda: (shown := peer.run(run))["state"] != "RUNNING" and shown)


def _open(run: str, index: int = 0) -> dict[str, Any]:
    return {
        "type": "task",
        "run": run,
        "index": index,
        "name": "t",
        "state": "RUNNING",
        "started": 1,
    }


def _done(run: str, index: int = 0) -> dict[str, Any]:
    return {**_open(run, index), "state": "COMPLETED", "ended": 5}


def test_one_client_falls_silent_while_another_works(backend: Running) -> None:
    silent, alive = backend.peer("c"), backend.peer("c")
    lost, kept = str(uuid.uuid4()), str(uuid.uuid4())
    silent.ingest(started(lost, "f"), _open(lost))
    alive.ingest(started(kept, "f"), _open(kept))
    with beating(alive):
        run = _ended(alive, lost)
        assert alive.run(kept)["state"] == "RUNNING"
    assert run["state"] == "FAILED" and run["inferred"] is True
    assert run["reason"] == "no sign of life from the client for 0.5 s"
    assert (run["tasks"][0]["state"], run["tasks"][0]["reason"]) == ("FAILED", run["reason"])


def test_an_inferred_end_is_replaced_once_by_what_the_client_says(
    backend: Running, run_id: str, where: str
) -> None:
    peer = backend.peer("c")
    peer.ingest(started(run_id, "f"), _open(run_id))
    _ended(peer, run_id)
    # the outage is over: tasks and lines are filled in, then the end is heard
    line = {"type": "log", "run": run_id, "stream": "stdout", "text": "while you were away"}
    assert peer.ingest(line, _done(run_id), _done(run_id, 1))["rejected"] == []
    shown = peer.run(run_id)
    assert shown["state"] == "FAILED" and shown["inferred"] is True
    assert [task["state"] for task in shown["tasks"]] == ["COMPLETED", "COMPLETED"]
    assert shown["tasks"][0]["reason"] is None and shown["tasks"][0]["durationMs"] == 4
    assert peer.ingest(ended(run_id, 2))["rejected"] == []
    shown = peer.run(run_id)
    assert (shown["state"], shown["inferred"], shown["reason"]) == ("COMPLETED", False, None)
    assert shown["logs"] == ["while you were away"]
    assert len(peer.ingest(ended(run_id, 2, "FAILED"))["rejected"]) == 1
    stats = peer.get("/api/statistics/flow-history/f").ok()["stats"]
    assert stats["sampleCount"] == 1
    backend.server.stop()
    database = open_database(where)
    with database.read() as connection:
        noted = audit.of_run(connection, run_id)
    database.close()
    assert [action for action, _ in noted] == ["inferred", "replaced"]
    assert noted[1][1]["inferred"]["state"] == "FAILED"
    assert noted[1][1]["reported"]["state"] == "COMPLETED"


def test_a_client_without_headers_that_never_beat_is_not_missed(backend: Running) -> None:
    peer, other = backend.peer(), backend.peer("c")
    run = peer.begin(peer.register("f", "a")["id"])
    peer.task(run, 0, "RUNNING").ok()
    canary = str(uuid.uuid4())
    other.ingest(started(canary, "f"))
    _ended(other, canary)
    assert other.run(run)["state"] == "RUNNING"


def test_a_client_without_headers_is_missed_after_its_first_heartbeat(backend: Running) -> None:
    peer = backend.peer()
    run = peer.begin(peer.register("f", "a")["id"])
    peer.task(run, 0, "RUNNING").ok()
    peer.post("/api/heartbeat").ok()
    shown = _ended(peer, run)
    assert shown["state"] == "FAILED" and "no sign of life" in shown["reason"]
    # it was only slow: `complete` decides, once
    peer.task(run, 0, "COMPLETED").ok()
    peer.complete(run, 1).ok()
    assert peer.run(run)["state"] == "COMPLETED"
    peer.task(run, 0, "FAILED").refused(409)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({"crucialPass": True, "state": "COMPLETED"}, "COMPLETED"),
        ({"crucialPass": False, "state": "FAILED"}, "COMPLETED"),
        ({"crucialPass": True, "state": "FAILED"}, "FAILED"),
        ({"crucialPass": True, "state": "RUNNING"}, "FAILED"),
    ],
)
def test_the_oldest_clients_never_say_complete(
    backend: Running, states: dict[str, Any], expected: str
) -> None:
    peer = backend.peer()
    run = peer.begin(peer.register("f", "a")["id"])
    peer.post("/api/heartbeat").ok()
    peer.post(f"/api/runs/{run}/tasks/0/state", states).ok()
    wait_until(lambda: (shown := peer.run(run))["state"] == expected and shown["endTime"])
    samples = 1 if expected == "COMPLETED" else None
    stats = peer.get("/api/statistics/flow-history/f").ok()["stats"]
    assert (stats and stats["sampleCount"]) == samples
    peer.complete(run, 1)
    stats = peer.get("/api/statistics/flow-history/f").ok()["stats"]
    assert (stats and stats["sampleCount"]) == samples


def test_a_claimed_run_that_never_starts_is_failed_and_not_offered_again(backend: Running) -> None:
    peer = backend.peer("c")
    flow = peer.register("f", "a")["id"]
    run = peer.post(f"/api/engine/trigger/{flow}").ok()["runId"]
    lease = peer.poll(slots=1)["lease"]
    peer.post(f"/api/execution-requests/{run}/claim", {"lease": lease}).ok()
    shown = _ended(peer, run)
    assert shown["state"] == "FAILED" and shown["inferred"] is True
    assert peer.poll(slots=1) is None


def test_silence_clocks_start_anew_when_the_backend_starts(
    launch: Callable[..., Running], run_id: str
) -> None:
    backend = launch(silence=60)
    session = str(uuid.uuid4())
    peer = backend.peer("c", session)
    peer.ingest(started(run_id, "f"), _open(run_id))
    bare = backend.peer()
    documented = bare.begin(bare.register("g", "a")["id"])
    bare.post("/api/heartbeat").ok()
    backend.server.stop()

    backend = launch(silence=2)  # a beat may come late on a busy machine
    peer = backend.peer("c", session)
    with beating(peer):
        # nobody has beaten for this one since the start, and it did beat before
        assert _ended(peer, documented)["state"] == "FAILED"
        assert peer.run(run_id)["state"] == "RUNNING"
    assert _ended(peer, run_id)["inferred"] is True
