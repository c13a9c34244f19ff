"""Triggering runs from outside, and who gets to execute them."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from perfect.server.engine.dispatch import Offer, Waiter
from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until


@pytest.fixture
def backend(launch: Callable[..., Running]) -> Running:
    return launch(poll=10.0, lease=0.3)


def _trigger(peer: Peer, flow: str, **body: Any) -> str:
    run: str = peer.post(f"/api/engine/trigger/{flow}", body).ok()["runId"]
    return run


@contextmanager
def polling(peer: Peer, slots: int | None = None) -> Iterator[list[Any]]:
    """A poll that waits in a thread; its answer is in the list after the block."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(peer.poll(slots)))
    thread.start()
    yield answers
    thread.join(20)
    assert not thread.is_alive()


def _waiting(backend: Running, polls: int = 1) -> None:
    room = backend.server.backend.waiting
    wait_until(lambda: len(room) == polls)


def test_a_poll_without_work_ends_with_null(launch: Callable[..., Running]) -> None:
    backend = launch(poll=0.1)
    assert backend.peer().poll() is None
    assert backend.peer("c").poll(slots=1) is None


def test_a_waiting_native_poller_gets_the_request_with_a_lease(backend: Running) -> None:
    peer = backend.peer("c")
    flow = peer.register("flow", "a")["id"]
    with polling(peer, slots=1) as answers:
        _waiting(backend)
        run = _trigger(backend.peer(), flow, configuration="prod", parameters={"n": 1})
    request = answers[0]
    assert request["run_id"] == run and request["lease"]
    assert (request["configuration"], request["parameters"]) == ("prod", {"n": 1})
    assert peer.run(run)["state"] == "PENDING"
    peer.post(f"/api/execution-requests/{run}/claim", {"lease": request["lease"]}).ok()
    assert peer.run(run)["state"] == "RUNNING"
    answer = peer.ingest({**started(run, "flow", "a"), "trigger": "request"}, ended(run, 0))
    assert answer["rejected"] == []
    shown = peer.run(run)
    assert (shown["state"], shown["trigger"]) == ("COMPLETED", "request")


def test_who_waits_is_given_the_request_in_the_transaction_that_makes_it(backend: Running) -> None:
    peer = backend.peer("c")
    flow = peer.register("flow")["id"]
    commits = []
    for _ in range(5):
        with polling(peer, slots=1) as answers:
            _waiting(backend)
            wait_until(lambda: all(one.idle for one in backend.server.backend.waiting._waiters))
            before = backend.server.backend.commits
            run = _trigger(backend.peer(), flow)
        assert answers[0]["run_id"] == run
        commits.append(backend.server.backend.commits - before)
    assert min(commits) == 1  # now and then one of the backend's own falls in between


def test_what_was_handed_to_a_poll_that_has_ended_waits_again(
    launch: Callable[..., Running],
) -> None:
    backend = launch(lease=60.0)
    session = str(uuid.uuid4())
    peer = backend.peer("c", session)
    flow = peer.register("flow")["id"]
    engine = backend.server.backend
    run = _trigger(peer, flow)
    waiter = Waiter(session, {flow}, claims=True)

    async def offered_too_late() -> None:
        offered = await engine.desk._offer(session, leased=True)
        assert offered is not None
        engine.desk._handed(waiter, offered)

    assert engine._loop is not None
    asyncio.run_coroutine_threadsafe(offered_too_late(), engine._loop).result(10)
    assert peer.poll(slots=1)["run_id"] == run


def test_what_was_offered_again_meanwhile_is_not_taken_back(backend: Running) -> None:
    session = str(uuid.uuid4())
    first, second = backend.peer("c", session), backend.peer("c")
    flow = first.register("flow")["id"]
    assert second.register("flow")["id"] == flow
    engine = backend.server.backend
    run = _trigger(first, flow)

    async def offer() -> Offer | None:
        return await engine.desk._offer(session, leased=True)

    assert engine._loop is not None
    offered = asyncio.run_coroutine_threadsafe(offer(), engine._loop).result(10)
    assert offered is not None and offered.answer["run_id"] == run
    again = second.poll(slots=1)  # after the lease has lapsed
    engine.soon(engine.desk._handed, Waiter(session, {flow}), offered)
    path = f"/api/execution-requests/{run}/claim"
    second.post(path, {"lease": again["lease"]}).ok()
    first.post(path, {"lease": offered.answer["lease"]}).refused(409)


def test_requests_go_first_in_first_out(backend: Running) -> None:
    peer = backend.peer()
    flow = peer.register("flow")["id"]
    runs = [_trigger(peer, flow) for _ in range(5)]
    assert [peer.poll()["run_id"] for _ in runs] == runs


def test_a_session_gets_only_flows_it_registered(launch: Callable[..., Running]) -> None:
    backend = launch(poll=0.1)
    mine, same_client, other, bare = (backend.peer(c) for c in ("c", "c", "d", None))
    flow = mine.register("flow")["id"]
    other.register("flow")
    bare.register("flow")
    run = _trigger(bare, flow)
    for peer in (same_client, other):
        assert peer.poll(slots=1) is None
    assert bare.poll() is None
    assert mine.poll(slots=1)["run_id"] == run


def test_a_poll_that_waits_hears_of_flows_registered_meanwhile(backend: Running) -> None:
    peer = backend.peer("c")
    with polling(peer, slots=1) as answers:
        _waiting(backend)
        run = _trigger(backend.peer(), peer.register("registered later")["id"])
    assert answers[0]["run_id"] == run


def test_no_free_place_no_request(launch: Callable[..., Running]) -> None:
    peer = launch(poll=0.1).peer("c")
    run = _trigger(peer, peer.register("flow")["id"])
    assert peer.poll(slots=0) is None
    assert peer.poll(slots=1)["run_id"] == run
    peer.get("/api/execution-requests?slots=-1").refused(400)
    peer.get("/api/execution-requests?slots=many").refused(400)


def test_each_request_goes_to_one_poller(backend: Running) -> None:
    peers = [backend.peer("c") for _ in range(8)]
    flow = [peer.register("flow")["id"] for peer in peers][0]
    results: list[Any] = []

    def work(peer: Peer) -> None:
        while (request := peer.poll(slots=1)) is not None:
            claim = f"/api/execution-requests/{request['run_id']}/claim"
            assert peer.post(claim, {"lease": request["lease"]}).status == 200
            results.append(request["run_id"])

    threads = [threading.Thread(target=work, args=(peer,)) for peer in peers]
    for thread in threads:
        thread.start()
    runs = [_trigger(backend.peer(), flow) for _ in range(40)]
    wait_until(lambda: len(results) >= len(runs))
    backend.server.stop()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == sorted(runs)


def test_a_claim_needs_the_valid_lease(backend: Running) -> None:
    peer, other = backend.peer("c"), backend.peer("c")
    flow = peer.register("flow")["id"]
    run = _trigger(peer, flow)
    request = peer.poll(slots=1)
    claim = f"/api/execution-requests/{run}/claim"
    peer.post(claim, {}).refused(400)
    peer.post(claim, {"lease": "guessed"}).refused(409)
    other.post(claim, {"lease": request["lease"]}).refused(409)
    peer.post(f"/api/execution-requests/{uuid.uuid4()}/claim", {"lease": "x"}).refused(404)
    # before the claim nobody may report on it
    assert len(peer.ingest(started(run, "flow"))["rejected"]) == 1
    peer.post(claim, {"lease": request["lease"]}).ok()
    other.post(claim, {"lease": request["lease"]}).refused(409)
    # said again because the answer was lost: still this session's, and nothing starts twice
    peer.post(claim, {"lease": request["lease"]}).ok()
    peer.ingest(started(run, "flow"), ended(run, 0))
    peer.post(claim, {"lease": request["lease"]}).refused(409)


def test_an_unclaimed_request_is_offered_again_to_another_session_first(backend: Running) -> None:
    first, second = backend.peer("c"), backend.peer("c")
    flow = [peer.register("flow")["id"] for peer in (first, second)][0]
    run = _trigger(first, flow)
    lost = first.poll(slots=1)
    # both wait: the one that let the lease run out comes second
    with polling(first, slots=1) as again, polling(second, slots=1) as answers:
        wait_until(lambda: answers or again)
        assert again == []
        offered = answers[0]
        assert offered["run_id"] == run and offered["lease"] != lost["lease"]
        claim = f"/api/execution-requests/{run}/claim"
        first.post(claim, {"lease": lost["lease"]}).refused(409)
        second.post(claim, {"lease": offered["lease"]}).ok()
        backend.server.backend.waiting.close()
    assert again == [None]


def test_an_unclaimed_request_comes_back_to_the_only_session(backend: Running) -> None:
    peer = backend.peer("c")
    run = _trigger(peer, peer.register("flow")["id"])
    lost = peer.poll(slots=1)
    offered = peer.poll(slots=1)
    assert offered["run_id"] == run and offered["lease"] != lost["lease"]


def _abandoned_poll(backend: Running) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", backend.port))
    connection.sendall(b"GET /api/execution-requests HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


def test_an_abandoned_poll_takes_no_request_with_it(backend: Running) -> None:
    peer = backend.peer()
    flow = peer.register("flow")["id"]
    for _ in range(10):
        connection = _abandoned_poll(backend)
        _waiting(backend)
        connection.close()
        # at once, so that the request meets the connection being closed
        run = _trigger(peer, flow)
        assert peer.poll()["run_id"] == run


def test_a_poll_that_is_closed_while_nothing_comes_is_forgotten(backend: Running) -> None:
    connection = _abandoned_poll(backend)
    _waiting(backend)
    connection.close()
    _waiting(backend, polls=0)


def test_a_client_that_polls_for_half_a_second_gets_every_request(backend: Running) -> None:
    peer = backend.peer()
    flow = peer.register("flow")["id"]
    done = threading.Event()
    got: list[str] = []

    def listen() -> None:
        while not done.is_set():
            try:
                request = peer.poll(timeout=0.02)
            except (TimeoutError, OSError):
                continue
            if request:
                got.append(request["run_id"])

    thread = threading.Thread(target=listen)
    thread.start()
    runs = []
    for _ in range(20):
        runs.append(_trigger(backend.peer(), flow))
        time.sleep(0.015)  # so that requests arrive at every point of a poll's short life
    states = {run: "PENDING" for run in runs}

    def settled() -> bool:
        states.update({run: backend.peer().run(run)["state"] for run in runs})
        return "PENDING" not in states.values()

    wait_until(settled)
    done.set()
    thread.join(20)
    # handed over means started: whatever was not received was sent to a socket that still seemed open
    assert set(got) <= set(runs) and len(got) == len(set(got)) and len(got) > len(runs) / 2


def test_requests_survive_a_restart(launch: Callable[..., Running]) -> None:
    backend = launch(poll=0.1)
    session = str(uuid.uuid4())
    peer = backend.peer("c", session)
    run = _trigger(peer, peer.register("flow", "a")["id"])
    backend.server.stop()
    peer = launch(poll=0.1).peer("c", session)
    assert peer.run(run)["state"] == "PENDING"
    request = peer.poll(slots=1)
    assert request["run_id"] == run
    peer.post(f"/api/execution-requests/{run}/claim", {"lease": request["lease"]}).ok()


def test_shutting_down_answers_open_polls(backend: Running) -> None:
    with polling(backend.peer("c"), slots=1) as answers:
        _waiting(backend)
        backend.server.stop()
    assert answers == [None]
