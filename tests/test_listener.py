"""A run that was asked for: whatever goes wrong between the claim and its first line, it ends, once."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from perfect import flow, task
from perfect.api import PerfectAPIClient
from perfect.errors import BackendUnreachable
from perfect.flows import FlowDefinition
from perfect.running import register
from perfect.sdk import Flow, configure, get_registry
from perfect.session import Session, get_session
from tests.support.backend import BackendProcess
from tests.support.processes import poll_until


class Claims:
    """What becomes of claims: a test may hold them up, or lose the answers to them."""

    def __init__(self) -> None:
        self.made = 0  # how many have reached the backend
        self.lost = 0  # of how many the answers are to be lost
        self.under_way = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def request(
        self, client: PerfectAPIClient, method: str, path: str, *more: Any, **by: Any
    ) -> Any:
        if not path.endswith("/claim"):
            return REQUEST(client, method, path, *more, **by)
        self.under_way.set()
        assert self.may_go_on.wait(30)
        answer = REQUEST(client, method, path, *more, **by)
        self.made += 1
        if self.lost:
            self.lost -= 1
            raise BackendUnreachable("the answer broke off")
        return answer


REQUEST = PerfectAPIClient.request


@task
def step() -> None:
    print("at work")


@flow
def plain() -> None:
    step()


@flow
async def asynchronous() -> None:
    step()


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> Iterator[Claims]:
    made = Claims()
    monkeypatch.setattr(
        PerfectAPIClient, "request", lambda *args, **kwargs: made.request(*args, **kwargs)
    )
    yield made
    made.may_go_on.set()


@pytest.fixture
def session(backend: BackendProcess, claims: Claims) -> Session:
    configure(backend_url=backend.url, client_id=f"listens-{os.urandom(8).hex()}")
    return get_session()


def trigger(backend: BackendProcess, wanted: Flow[..., Any]) -> str:
    """Serve a flow, and ask for a run of it; returns the run's id."""
    definition: FlowDefinition = wanted.definition
    get_registry().register_flow(definition)
    assert register(definition)
    client = get_session().settings.client_id

    def found() -> list[str]:
        listed = backend.get("/api/engine/flows")
        return [
            one["id"]
            for one in listed
            if (one["clientId"], one["name"]) == (client, definition.name)
        ]

    (flow_id,) = poll_until(found)
    status, answer = backend.request("POST", f"/api/engine/trigger/{flow_id}", {})
    assert status == 200, answer
    run_id: str = answer["runId"]
    return run_id


def ended(backend: BackendProcess, run_id: str) -> dict[str, Any]:
    def shown() -> Any:
        run = backend.get(f"/api/runs/{run_id}")
        return run if run["state"] not in ("PENDING", "RUNNING") else None

    found: dict[str, Any] = poll_until(shown, what="the run ends")
    return found


def test_where_no_thread_is_to_be_had_the_run_is_failed(
    backend: BackendProcess, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name.startswith("perfect-run-"):
            raise RuntimeError("can't start new thread")
        start(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        run = ended(backend, trigger(backend, plain))
    assert (run["state"], run["error"]["message"]) == ("FAILED", "can't start new thread")
    assert session.drain(10)


def test_an_async_flow_that_gets_no_event_loop_is_failed(
    backend: BackendProcess, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> asyncio.AbstractEventLoop:
        raise OSError("Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.events, "new_event_loop", refuse)
        run = ended(backend, trigger(backend, asynchronous))
    assert (run["state"], run["error"]["message"]) == ("FAILED", "Too many open files")
    assert ended(backend, trigger(backend, asynchronous))["state"] == "COMPLETED"


def test_a_claim_whose_answer_is_lost_is_made_again_and_the_run_is_executed_once(
    backend: BackendProcess, session: Session, claims: Claims
) -> None:
    claims.lost = 2
    run = ended(backend, trigger(backend, plain))
    assert (run["state"], claims.made) == ("COMPLETED", 3)
    assert backend.lines(run["id"]) == ["at work"]


def test_what_is_being_claimed_when_the_process_ends_is_waited_for(
    backend: BackendProcess, session: Session, claims: Claims
) -> None:
    claims.may_go_on.clear()
    run_id = trigger(backend, plain)
    assert claims.under_way.wait(20)
    done: list[bool] = []
    drains = threading.Thread(target=lambda: done.append(session.drain(20)))
    drains.start()
    claims.may_go_on.set()
    drains.join()
    assert done == [True]
    assert session.flush(20) and backend.get(f"/api/runs/{run_id}")["state"] == "COMPLETED"


def test_a_claim_without_an_answer_does_not_hold_up_the_end(
    backend: BackendProcess, session: Session, claims: Claims
) -> None:
    claims.may_go_on.clear()
    claims.lost = 1_000_000
    run_id = trigger(backend, plain)
    assert claims.under_way.wait(20)
    drains = threading.Thread(target=session.drain, args=(60,))
    drains.start()
    claims.may_go_on.set()
    drains.join(20)
    assert not drains.is_alive() and claims.made == 1
    assert backend.lines(run_id) == []
