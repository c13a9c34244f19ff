"""Many flows are registered in few requests, where the backend takes that."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from perfect.api import PerfectAPIClient
from perfect.errors import BackendRefused, BackendUnreachable
from perfect.flows import FlowDefinition
from perfect.native import MOST_FLOWS
from perfect.running import _serve
from perfect.sdk import configure
from perfect.session import get_session
from tests.support.backend import BackendProcess

REQUEST = PerfectAPIClient.request


class Spy:
    """Notes the paths of the requests; may refuse some, or change their answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[str] = []
        self.before: Callable[[str], None] = lambda path: None
        self.after: Callable[[str, Any], Any] = lambda path, answer: answer

        def request(client: PerfectAPIClient, method: str, path: str, *args: Any, **by: Any) -> Any:
            self.before(path)
            answer = self.after(path, REQUEST(client, method, path, *args, **by))
            self.paths.append(path)
            return answer

        monkeypatch.setattr(PerfectAPIClient, "request", request)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


def nothing() -> None:
    pass


def serve(backend: BackendProcess, count: int, *more: FlowDefinition) -> list[str]:
    """Serve so many flows and more; returns the names that the backend has then."""
    client = f"registers-{os.urandom(8).hex()}"
    configure(backend_url=backend.url, client_id=client)
    flows = [FlowDefinition(f"flow {number:04}", nothing) for number in range(count)]
    half = count // 2
    _serve(get_session(), [*flows[:half], *more, *flows[half:]], concurrency=1)
    assert get_session().flush(30)
    listed = backend.get("/api/engine/flows")
    return sorted(one["name"] for one in listed if one["clientId"] == client)


def test_a_thousand_flows_take_a_few_requests(backend: BackendProcess, spy: Spy) -> None:
    assert len(serve(backend, 1000)) == 1000
    assert spy.paths.count("/api/flows/batch") <= 1000 / MOST_FLOWS + 2
    assert spy.paths.count("/api/flows") <= 2  # what was there before the rest


def test_one_that_the_backend_does_not_take_does_not_hold_up_the_others(
    backend: BackendProcess, spy: Spy, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = FlowDefinition("wrong", nothing, tags={"team": "x" * 201})
    assert len(serve(backend, 20, wrong)) == 20
    (line,) = [one.getMessage() for one in caplog.records if "does not take" in one.getMessage()]
    assert line.startswith("perfect: the backend does not take flow 'wrong': tags")


def test_what_is_too_large_for_one_request_is_sent_in_several(
    backend: BackendProcess, spy: Spy
) -> None:
    refused = []

    def refuse(path: str) -> None:
        if path == "/api/flows/batch" and len(refused) < 3:
            refused.append(path)
            raise BackendRefused(413, "the body is too large")

    spy.before = refuse
    assert len(serve(backend, 20)) == 20 and len(refused) == 3


def test_a_request_that_was_not_answered_is_sent_again(backend: BackendProcess, spy: Spy) -> None:
    lost = []

    def lose(path: str, answer: Any) -> Any:
        if path == "/api/flows/batch" and not lost:
            lost.append(path)
            raise BackendUnreachable("the answer broke off")
        return answer

    spy.after = lose
    assert len(serve(backend, 20)) == 20 and lost


@pytest.mark.parametrize("limits", [{}, None, {"flows": "many"}, {"flows": 0}])
def test_a_backend_that_takes_them_one_by_one_gets_them_so(
    backend: BackendProcess, spy: Spy, limits: Any
) -> None:
    def older(path: str, answer: Any) -> Any:
        return {**answer, "limits": limits} if path == "/api/version" else answer

    spy.after = older
    assert len(serve(backend, 10)) == 10
    assert spy.paths.count("/api/flows") == 10 and "/api/flows/batch" not in spy.paths
