"""The tasks of a run, page by page."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started

ERROR = {"type": "ValueError", "message": "no", "traceback": "a\nb"}


@pytest.fixture
def peer(shared: Running) -> Peer:
    return shared.peer("lister")


@pytest.fixture
def run(peer: Peer, run_id: str) -> str:
    """25 tasks: every fifth failed, the last never began, and number 3 took two attempts."""
    events: list[dict[str, Any]] = [started(run_id, "paged", *(f"Task {i}" for i in range(25)))]
    t = 1_700_000_000_000
    for index in range(24):
        event: dict[str, Any] = {"type": "task", "run": run_id, "index": index}
        event |= {"name": f"Task {index}", "started": t, "ended": t + 10, "estimate": 100}
        bad = index % 5 == 0
        event |= {"state": "FAILED", "error": ERROR} if bad else {"state": "COMPLETED"}
        if index == 3:
            first = {"attempt": 1, "started": t, "ended": t + 1, "error": ERROR}
            event |= {"attempt": 2, "attempts": [first], "result": {"note": "x"}}
        events.append(event)
    peer.ingest(*events, {**ended(run_id, 25, "FAILED")})
    return run_id


def indices(answer: dict[str, Any]) -> list[int]:
    return [task["index"] for task in answer["tasks"]]


def test_pages_have_every_task_once(peer: Peer, run: str) -> None:
    seen, after = [], -1
    while True:
        page = peer.get(f"/api/runs/{run}/tasks?after={after}&limit=7").ok()
        seen += indices(page)
        assert page["total"] == 25
        assert page["states"] == {"COMPLETED": 19, "FAILED": 5, "CANCELLED": 1}
        if page["next"] is None:
            break
        after = page["next"]
    assert seen == list(range(25))


def test_tasks_are_found_by_state_and_name(peer: Peer, run: str) -> None:
    path = f"/api/runs/{run}/tasks"
    assert indices(peer.get(f"{path}?state=failed").ok()) == [0, 5, 10, 15, 20]
    assert indices(peer.get(f"{path}?state=FAILED&limit=1").ok()) == [0]
    assert indices(peer.get(f"{path}?state=FAILED,CANCELLED&after=14").ok()) == [15, 20, 24]
    assert indices(peer.get(f"{path}?q=task%202").ok()) == [2, 20, 21, 22, 23, 24]
    assert indices(peer.get(f"{path}?q=%25").ok()) == []
    peer.get(f"{path}?state=DONE").refused(400)
    peer.get(f"{path}?limit=0").refused(400)
    peer.get(f"{path}?after=-2").refused(400)


def test_a_page_shows_what_the_whole_run_does(peer: Peer, run: str) -> None:
    left_out = {"result", "error", "logs", "attempts"}
    for task, brief in zip(
        peer.run(run)["tasks"], peer.get(f"/api/runs/{run}/tasks").ok()["tasks"], strict=True
    ):
        assert brief == {name: task[name] for name in task.keys() - left_out}


def test_one_task_has_its_result_error_and_attempts(peer: Peer, run: str) -> None:
    of_run = peer.run(run)["tasks"]
    for index in (0, 3, 24):
        alone = peer.get(f"/api/runs/{run}/tasks/{index}").ok()
        assert alone == {name: value for name, value in of_run[index].items() if name != "logs"}
    retried = peer.get(f"/api/runs/{run}/tasks/3").ok()
    assert retried["result"]["note"] == "x"
    assert [(one["attempt"], one["error"]) for one in retried["attempts"]] == [(1, ERROR)]
    for index in (25, -1, 2**31 - 1, 2**70):
        peer.get(f"/api/runs/{run}/tasks/{index}").refused(404)
    peer.get(f"/api/runs/{run}/tasks/first").refused(400)


@pytest.mark.parametrize("weights", [(1, 3), (None, 3), (0, 0)])
def test_the_shares_are_those_of_the_whole_run(
    peer: Peer, weights: tuple[int | None, int], run_id: str
) -> None:
    peer.ingest(started(run_id, "weighed"))
    for index, weight in enumerate(weights):
        event = {"type": "task", "run": run_id, "index": index, "name": f"t{index}"}
        peer.ingest({**event, "state": "RUNNING", "estimate": 50 + index, "weight": weight})
    of_run = [task["weight"] for task in peer.run(run_id)["tasks"]]
    assert sum(of_run) == pytest.approx(1)
    for index, share in enumerate(of_run):
        (task,) = peer.get(f"/api/runs/{run_id}/tasks?after={index - 1}&limit=1").ok()["tasks"]
        assert task["weight"] == pytest.approx(share)
    peer.ingest(ended(run_id, 2))


def test_a_run_can_be_asked_for_without_its_tasks_and_lines(peer: Peer, run: str) -> None:
    bare = peer.get(f"/api/runs/{run}?tasks=0&lines=0").ok()
    assert bare["tasks"] == [] and bare["taskCount"] == 25
    whole = peer.run(run)
    assert {**bare, "tasks": None, "logs": None} == {**whole, "tasks": None, "logs": None}
