"""Runs of graph flows: attempts, edges, tasks that are skipped or cancelled, and how they are shown."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until

T = 1_700_000_000_000
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def peer(shared: Running) -> Peer:
    return shared.peer("graphs")


def _task(run: str, index: int, state: str = "COMPLETED", **more: Any) -> dict[str, Any]:
    return {"type": "task", "run": run, "index": index, "name": f"t{index}", "state": state, **more}


def _error(message: str) -> dict[str, str]:
    return {"type": "ValueError", "message": message, "traceback": f"Traceback of {message}"}


def _attempt(number: int, **more: Any) -> dict[str, Any]:
    start = T + number * 10_000
    return {
        "attempt": number,
        "started": start,
        "ended": start + 1_200,
        "error": _error(f"no {number}"),
        "reason": None,
        "worker": None,
        **more,
    }


def _only(peer: Peer, run: str) -> dict[str, Any]:
    (task,) = peer.run(run)["tasks"]
    return dict(task)


def _graph(run: str, name: str, edges: list[list[int]], *tasks: str) -> dict[str, Any]:
    event = started(run, name, *tasks)
    event["flow"]["edges"] = edges
    return event


# --- attempts ------------------------------------------------------------------------------------


def test_a_task_retries_step_by_step(peer: Peer, run_id: str) -> None:
    peer.ingest(
        started(run_id, "retries", "t0"),
        _task(run_id, 0, "RUNNING", attempt=1, started=T, estimate=1_000, progress=50),
    )
    assert (_only(peer, run_id)["progress"], _only(peer, run_id)["attempts"]) == (50, [])
    first = {"attempt": 1, "started": T, "ended": T + 300, "error": _error("bad")}
    peer.ingest(
        _task(run_id, 0, "RETRYING", attempt=1, error=_error("bad"), reason="again in 5 s"),
    )
    task = _only(peer, run_id)
    assert (task["state"], task["progress"], task["endTime"]) == ("RETRYING", 0, None)
    assert (task["error"]["message"], task["reason"]) == ("bad", "again in 5 s")
    assert peer.run(run_id)["progress"] == 0 and not task["performanceWarning"]

    # far in the future: no progress has been made since then
    late = 4_000_000_000_000
    peer.ingest(_task(run_id, 0, "RUNNING", attempt=2, started=late, attempts=[first]))
    task = _only(peer, run_id)
    assert (task["startTime"], task["progress"], task["attempt"]) == (
        "2096-10-02T07:06:40.000Z",
        0,
        2,
    )
    assert (task["reason"], task["error"], task["durationMs"]) == (None, None, None)
    peer.ingest(
        _task(run_id, 0, attempt=2, started=late, ended=late + 70, attempts=[first]),
        ended(run_id, 1, t=late + 80),
    )
    task = _only(peer, run_id)
    assert (task["state"], task["durationMs"], task["error"]) == ("COMPLETED", 70, None)
    assert task["attempts"] == [
        {
            "attempt": 1,
            "startTime": "2023-11-14T22:13:20.000Z",
            "endTime": "2023-11-14T22:13:20.300Z",
            "durationMs": 300,
            "error": _error("bad"),
            "reason": None,
            "worker": None,
        }
    ]
    stats = peer.get("/api/statistics/task-history/retries/t0").ok()["stats"]
    assert (stats["avgDurationMs"], stats["sampleCount"]) == (70, 1)


def test_a_task_may_be_first_heard_of_when_all_its_attempts_are_over(
    peer: Peer, run_id: str
) -> None:
    earlier = [_attempt(1), _attempt(2, error=None, reason="worker lost", worker="tcp://x:1")]
    peer.ingest(
        started(run_id, "merged"),
        _task(run_id, 0, attempt=3, started=T + 90_000, ended=T + 90_040, attempts=earlier),
        ended(run_id, 1),
    )
    task = _only(peer, run_id)
    assert (task["attempt"], task["durationMs"], task["error"]) == (3, 40, None)
    assert [a["attempt"] for a in task["attempts"]] == [1, 2]
    second = task["attempts"][1]
    assert (second["error"], second["reason"], second["worker"]) == (
        None,
        "worker lost",
        "tcp://x:1",
    )


def test_in_one_batch_each_attempt_starts_anew(peer: Peer, run_id: str) -> None:
    peer.ingest(
        started(run_id, "one batch", "t0"),
        _task(run_id, 0, "RUNNING", attempt=1, started=T, progress=80),
        _task(run_id, 0, "RETRYING", attempt=1, error=_error("bad"), attempts=[_attempt(1)]),
        # neither a start nor progress is told: those of the first attempt are not this one's
        _task(run_id, 0, "RUNNING", attempt=2),
    )
    task = _only(peer, run_id)
    assert (task["startTime"], task["progress"], task["error"]) == (None, 0, None)
    peer.ingest({"type": "task", "run": run_id, "index": 0, "state": "COMPLETED", "ended": T + 5})
    task = _only(peer, run_id)
    assert (task["durationMs"], task["attempt"], task["error"]) == (None, 2, None)


def test_an_end_without_a_start_counts_from_the_start_of_its_own_attempt(
    peer: Peer, run_id: str
) -> None:
    peer.ingest(
        started(run_id, "own start", "t0"),
        _task(run_id, 0, "RUNNING", attempt=1, started=T),
        _task(run_id, 0, "RUNNING", attempt=2, started=T + 500),
        _task(run_id, 0, attempt=2, ended=T + 530),
    )
    assert _only(peer, run_id)["durationMs"] == 30


def test_the_last_attempt_decides_what_the_error_is(peer: Peer, run_id: str) -> None:
    peer.ingest(
        started(run_id, "errors", "t0"),
        _task(run_id, 0, "RETRYING", attempt=2, started=T, attempts=[_attempt(1)]),
    )
    # told by the list alone
    assert _only(peer, run_id)["error"] == _error("no 1")
    peer.ingest(
        _task(
            run_id,
            0,
            "FAILED",
            attempt=2,
            started=T,
            ended=T + 1,
            error=_error("last"),
            attempts=[_attempt(1)],
        ),
    )
    task = _only(peer, run_id)
    assert task["error"] == _error("last") and [a["attempt"] for a in task["attempts"]] == [1]


def test_attempts_are_told_again_without_harm(peer: Peer, run_id: str) -> None:
    peer.ingest(started(run_id, "again", "t0"))
    for newest in (1, 2, 3):
        told = [_attempt(number) for number in range(1, newest + 1)]
        peer.ingest(_task(run_id, 0, "RETRYING", attempt=newest, attempts=told))
    peer.ingest(
        _task(run_id, 0, "RETRYING", attempt=4, attempts=[_attempt(4), _attempt(4), _attempt(2)])
    )
    shown = _only(peer, run_id)["attempts"]
    assert [(a["attempt"], a["error"]["message"]) for a in shown] == [
        (number, f"no {number}") for number in (1, 2, 3, 4)
    ]


def test_of_a_task_that_retries_for_days_the_newest_attempts_are_kept(
    peer: Peer, run_id: str
) -> None:
    peer.ingest(
        started(run_id, "days", "t0", "t1"),
        _task(run_id, 1, "RETRYING", attempt=1, attempts=[_attempt(1)]),
    )
    for first in range(1, 151, 50):
        told = [_attempt(number) for number in range(first, first + 50)]
        peer.ingest(_task(run_id, 0, "RETRYING", attempt=first + 49, attempts=told))
    task, other = peer.run(run_id)["tasks"]
    assert [a["attempt"] for a in task["attempts"]] == list(range(51, 151))
    assert [a["attempt"] for a in other["attempts"]] == [1]
    # many at once, and in no order
    peer.ingest(
        _task(
            run_id, 0, attempt=1_001, attempts=[_attempt(number) for number in range(1_000, 0, -1)]
        )
    )
    task, _ = peer.run(run_id)["tasks"]
    assert [a["attempt"] for a in task["attempts"]] == list(range(901, 1_001))
    peer.ingest(ended(run_id, 2))
    html = peer.get(f"/reports/{run_id}.html").text
    assert "90 more attempts" in html and "attempt 1000 failed" in html


def test_a_traceback_is_cut_like_that_of_a_task(peer: Peer, run_id: str) -> None:
    long = {"type": "E", "message": "m", "traceback": "x" * 1_000_000}
    peer.ingest(
        started(run_id, "long"),
        _task(run_id, 0, "FAILED", attempt=2, error=long, attempts=[_attempt(1, error=long)]),
        {**ended(run_id, 1, "FAILED"), "error": long},
    )
    run = peer.run(run_id)
    (task,) = run["tasks"]
    for error in (task["error"], task["attempts"][0]["error"], run["error"]):
        assert error["message"] == "m" and error["traceback"].endswith("bytes]")
        assert 100_000 < len(error["traceback"]) < 140_000


def test_attempts_go_with_their_task_and_their_run(
    launch: Callable[..., Running],
) -> None:
    backend = launch()
    peer = backend.peer("c")
    trimmed, deleted = str(uuid.uuid4()), str(uuid.uuid4())
    for run in (trimmed, deleted):
        peer.ingest(
            started(run, "f"),
            *(_task(run, i, attempt=2, attempts=[_attempt(1)]) for i in range(3)),
            ended(run, 2),
        )
    peer.send("DELETE", f"/api/runs/{deleted}").ok()

    with backend.server.backend.read() as connection:
        kept = connection.exec_driver_sql(
            "select r.id, a.idx from task_attempt a left join run r on r.key = a.run order by 2"
        ).all()
    assert kept == [(trimmed, 0), (trimmed, 1)]
    assert [len(task["attempts"]) for task in peer.run(trimmed)["tasks"]] == [1, 1]


def test_lists_are_made_without_the_attempts(peer: Peer, run_id: str) -> None:
    peer.ingest(started(run_id, "listed"), _task(run_id, 0, attempt=2, attempts=[_attempt(1)]))
    listed = next(run for run in peer.get("/api/engine/runs").ok() if run["id"] == run_id)
    assert listed["tasks"][0]["attempt"] == 2 and "attempts" not in listed["tasks"][0]


def test_a_task_that_silence_ended_may_go_on_with_another_attempt(
    launch: Callable[..., Running], run_id: str
) -> None:
    peer = launch(silence=0.3).peer("c")
    peer.ingest(
        started(run_id, "silent", "t0", "t1"),
        _task(run_id, 0, "RUNNING", attempt=1, started=T),
    )
    wait_until(lambda: peer.run(run_id)["state"] == "FAILED")
    run = peer.run(run_id)
    assert [task["state"] for task in run["tasks"]] == ["FAILED", "CANCELLED"]
    peer.ingest(
        _task(run_id, 0, attempt=2, started=T + 50, ended=T + 60, attempts=[_attempt(1)]),
        _task(run_id, 1, started=T + 60, ended=T + 65),
        ended(run_id, 2),
    )
    run = peer.run(run_id)
    assert (run["state"], run["inferred"]) == ("COMPLETED", False)
    assert [(t["state"], t["durationMs"], t["reason"]) for t in run["tasks"]] == [
        ("COMPLETED", 10, None),
        ("COMPLETED", 5, None),
    ]


# --- graphs --------------------------------------------------------------------------------------


def test_a_graph_is_known_before_its_tasks_start(peer: Peer, run_id: str) -> None:
    edges = [[0, 2], [1, 2], [0, 1], [0, 2]]
    peer.ingest(_graph(run_id, "graph", edges, "a", "b", "c", "d"))
    tasks = peer.run(run_id)["tasks"]
    assert [(task["state"], task["upstream"]) for task in tasks] == [
        ("PENDING", []),
        ("PENDING", [0]),
        ("PENDING", [0, 1]),
        ("PENDING", []),
    ]
    peer.ingest(
        _task(run_id, 1, "RUNNING", started=T),
        _task(run_id, 2, "RUNNING", started=T, upstream=[1]),
        _task(run_id, 4, upstream=[2], map_index=0),
        _task(run_id, 5, upstream=[2], map_index=1),
    )
    tasks = peer.run(run_id)["tasks"]
    assert [task["upstream"] for task in tasks] == [[], [0], [1], [], [2], [2]]
    assert [task["mapIndex"] for task in tasks] == [None, None, None, None, 0, 1]


def test_a_flow_without_edges_says_nothing_of_what_comes_before(peer: Peer, run_id: str) -> None:
    peer.ingest(started(run_id, "no graph", "a"))
    assert _only(peer, run_id)["upstream"] is None


def test_many_may_come_before_one(peer: Peer, run_id: str) -> None:
    count = 30_000
    tasks = [f"t{i}" for i in range(count + 1)]
    peer.ingest(_graph(run_id, "fan-in", [[i, count] for i in range(count)], *tasks))
    answer = peer.ingest(_task(run_id, count, upstream=list(range(count))))
    assert answer["rejected"] == []
    assert peer.run(run_id)["taskCount"] == count + 1


def test_a_wrong_graph_is_refused(peer: Peer, run_id: str) -> None:
    answer = peer.ingest(_graph(run_id, "wrong graph", [[0, 1]], "a"))
    assert "edges[0]" in answer["rejected"][0]["error"]
    failure = peer.post("/api/flows", {"name": "wrong", "tasks": [], "edges": [[0, 0]]}).refused(
        400
    )
    assert "edges[0]" in failure["error"]


def test_a_registered_graph_is_shown_and_its_queued_runs_have_it(
    launch: Callable[..., Running],
) -> None:
    peer = launch().peer("c")
    schema = {
        "type": "object",
        "properties": {"z": {"type": "integer", "default": 1}, "a": {}},
        "required": ["a"],
    }
    edges = [[0, 1], [0, 2]]
    flow = peer.register("graph", "a", "b", "c", edges=edges, parameters=schema)
    assert (flow["edges"], flow["parameters"]) == (edges, schema)
    assert list(flow["parameters"]["properties"]) == ["z", "a"]
    (listed,) = peer.get("/api/engine/flows").ok()
    assert (listed["edges"], listed["parameters"]) == (edges, schema)
    queued = peer.post(f"/api/engine/trigger/{flow['id']}", {"parameters": {"a": 2}}).ok()["runId"]
    for run in (queued, peer.begin(flow["id"])):
        assert [task["upstream"] for task in peer.run(run)["tasks"]] == [[], [0], [0]]
    # the client that executes it says the same again, and its tasks have their own word
    offer = peer.poll(slots=1)
    peer.post(f"/api/execution-requests/{queued}/claim", {"lease": offer["lease"]}).ok()
    begin = _graph(queued, "graph", edges, "a", "b", "c")
    begin["flow"]["parameters"] = schema
    peer.ingest({**begin, "trigger": "request"}, _task(queued, 2, "RUNNING", upstream=[1]))
    assert [task["upstream"] for task in peer.run(queued)["tasks"]] == [[], [0], [1]]
    # registered without a graph, it is one no longer
    again = peer.register("graph", "a", "b", "c")
    assert (again["id"], again["edges"], again["parameters"]) == (flow["id"], None, None)


# --- skipped, cancelled, failed, never started ---------------------------------------------------


def test_skipped_and_cancelled_are_ends_with_a_reason(peer: Peer, run_id: str) -> None:
    peer.ingest(
        started(run_id, "ends", "t0", "t1", "t2", "t3"),
        _task(run_id, 0, "SKIPPED", weight=1, reason="when() was false"),
        _task(run_id, 1, "CANCELLED", weight=1, reason="the flow was stopped"),
        _task(run_id, 2, reason="Cached", weight=1),
        _task(run_id, 3, "RUNNING", weight=1, progress=0),
    )
    run = peer.run(run_id)
    assert run["progress"] == 50
    assert [(t["state"], t["progress"], t["reason"], t["error"]) for t in run["tasks"]] == [
        ("SKIPPED", 100, "when() was false", None),
        ("CANCELLED", 0, "the flow was stopped", None),
        ("COMPLETED", 100, "Cached", None),
        ("RUNNING", 0, None, None),
    ]
    answer = peer.ingest(*(_task(run_id, index, "RUNNING") for index in range(3)))
    assert len(answer["rejected"]) == 3
    peer.ingest(_task(run_id, 3), ended(run_id, 4))
    run = peer.run(run_id)
    assert (run["state"], run["progress"]) == ("COMPLETED", 100)


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED", "SKIPPED"])
def test_a_failed_crucial_task_leaves_the_run_to_its_client(
    peer: Peer, run_id: str, state: str
) -> None:
    peer.ingest(
        started(run_id, "reference tasks", "t0", "t1"),
        _task(run_id, 0, "FAILED", crucial=True, started=T, ended=T + 5, error=_error("bad")),
    )
    assert peer.run(run_id)["state"] == "RUNNING"
    answer = peer.ingest(_task(run_id, 1, started=T), ended(run_id, 2, state))
    assert answer["rejected"] == []
    run = peer.run(run_id)
    assert run["state"] == state
    assert [task["state"] for task in run["tasks"]] == ["FAILED", "COMPLETED"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("COMPLETED", "never started"),
        ("FAILED", "never started"),
        ("CANCELLED", "the run was cancelled"),
    ],
)
def test_what_never_started_is_cancelled_with_its_run(
    peer: Peer, run_id: str, state: str, reason: str
) -> None:
    peer.ingest(
        started(run_id, "rest", "t0", "t1", "t2", "t3"),
        _task(run_id, 0, started=T, ended=T + 5),
        _task(run_id, 2, "PENDING", reason="waits for its time"),
        ended(run_id, 3, state),
    )
    tasks = peer.run(run_id)["tasks"]
    assert [(task["state"], task["reason"]) for task in tasks] == [
        ("COMPLETED", None),
        ("CANCELLED", reason),
        ("CANCELLED", reason),
    ]
    assert tasks[1]["startTime"] is tasks[1]["endTime"] is tasks[1]["durationMs"] is None


def test_why_a_task_waited_is_over_when_it_runs(peer: Peer, run_id: str) -> None:
    peer.ingest(
        started(run_id, "waits", "t0"), _task(run_id, 0, "PENDING", reason="scheduled for 9:00")
    )
    assert _only(peer, run_id)["reason"] == "scheduled for 9:00"
    peer.ingest(_task(run_id, 0, "RUNNING", started=T))
    assert _only(peer, run_id)["reason"] is None


# --- reports -------------------------------------------------------------------------------------


def test_reports_show_attempts_reasons_and_the_graph(peer: Peer, run_id: str) -> None:
    evil = {"type": EVIL, "message": EVIL, "traceback": f"{EVIL} traceback"}
    peer.ingest(
        _graph(run_id, "shown", [[i, 12] for i in range(12)], *(f"t{i}" for i in range(13))),
        _task(run_id, 0, attempt=3, attempts=[_attempt(1), _attempt(2, error=evil, worker=EVIL)]),
        _task(run_id, 1, upstream=[0], map_index=2),
        _task(run_id, 2, "SKIPPED", upstream=[0, 1], reason="not on Sundays"),
        _task(run_id, 3, "CANCELLED", reason=f"stopped {EVIL}"),
        _task(run_id, 4, reason="Cached"),
        _task(run_id, 5, attempt=2, attempts=[_attempt(1, error=None, reason="worker lost")]),
        _task(run_id, 6, "RETRYING", attempt=1, error=_error("no 1"), attempts=[_attempt(1)]),
    )
    peer.ingest(ended(run_id, 13))
    page = peer.get(f"/reports/{run_id}.html")
    html = page.text
    assert page.status == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in html and "<img" not in html and EVIL not in html
    assert "<summary>attempt 1 failed after 1.2 s: ValueError: no 1</summary>" in html
    assert '<pre class="panel">Traceback of no 1</pre>' in html
    assert "attempt 2 failed after 1.2 s on &lt;img" in html
    assert "attempt 1 ended after 1.2 s (worker lost)" in html
    assert "t1[2]" in html and "t0[" not in html
    assert "after #0, #1<" in html and "#9 and 2 more" in html
    for reason in ("not on Sundays", "stopped &lt;img", "Cached", "never started"):
        assert reason in html
