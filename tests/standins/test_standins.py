"""The stand-ins do what deployed peers do; each test holds one of their ways."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.standins.documented_backend import DocumentedBackend
from tests.standins.documented_client import DocumentedClient, Step

ROOT = Path(__file__).parents[2]


@pytest.fixture
def backend() -> Iterator[DocumentedBackend]:
    with DocumentedBackend() as backend:
        yield backend


@pytest.fixture
def client(backend: DocumentedBackend) -> Iterator[DocumentedClient]:
    with DocumentedClient(backend.url, heartbeat=False, tick=0.01) as client:
        yield client


def start(client: DocumentedClient, *steps: Step, name: str = "Flow") -> str:
    """A run of a freshly registered flow."""
    run_id = client.start_run(client.register(name, steps)["id"])
    assert run_id
    return run_id


def raw(backend: DocumentedBackend, body: bytes, path: str = "/api/flows", **headers: str) -> Any:
    """(status, content type, text) of a POST with any body."""
    connection = http.client.HTTPConnection("127.0.0.1", backend.port, timeout=10)
    try:
        sent = {"Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, sent)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read().decode()
    finally:
        connection.close()


# A whole flow


def test_a_flow_is_tracked_to_its_end(backend: DocumentedBackend, client: DocumentedClient) -> None:
    result = {"passed": True, "note": "done", "table": [{"rows": 3}]}
    run_id = client.run_flow(
        "ETL",
        [Step("extract", logs=["one", "two"], result=result), Step("load", crucial=False)],
        tags={"team": "data"},
        schedule="0 0 * * *",
    )
    run = backend.run(run_id)
    assert (run.state, run.configuration, run.flow.tags) == (
        "COMPLETED",
        "development",
        {"team": "data"},
    )
    assert run.logs == ["[Task Output] one", "[Task Output] two"]
    assert [(task.name, task.state, task.crucial) for task in run.tasks] == [
        ("extract", "COMPLETED", True),
        ("load", "COMPLETED", False),
    ]
    assert run.tasks[0].result == result
    assert run.flow.schedule == "0 0 * * *"


def test_what_the_client_sends(backend: DocumentedBackend, client: DocumentedClient) -> None:
    client.run_flow("Wire", [Step("work", estimated=50, weight=7, logs=["hi"], duration=0.05)])
    sent = [
        (request.method, request.path.split("/")[-1], request.body) for request in backend.journal
    ]
    register, run, first, log, *ticks, last, complete = sent
    assert register[2]["tasks"] == [
        {"name": "work", "description": "", "estimatedTime": 50, "crucialPass": True, "weight": 7}
    ]
    assert register[2]["schedule"] is None
    assert run[2] == {"configuration": "development"}
    assert first[2] == {
        "state": "RUNNING",
        "progress": 0,
        "taskName": "work",
        "estimatedTime": 50,
        "crucialPass": True,
    }
    assert log == ("POST", "logs", {"log": "[Task Output] hi"})
    assert ticks and all(tick == ("POST", "state", {"state": "RUNNING"}) for tick in ticks)
    assert last[2].keys() == {"state", "progress", "durationMs"}
    assert (last[2]["state"], last[2]["progress"]) == ("COMPLETED", 100)
    assert complete == ("POST", "complete", {"taskCount": 1})
    for request in backend.journal:
        assert not [name for name in request.headers if name.startswith(("x-", "authorization"))]
        assert request.status == 200


def test_a_task_runs_until_it_is_told(backend: DocumentedBackend, client: DocumentedClient) -> None:
    go = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.run_flow, "Held", [Step("wait", until=go)])
        backend.wait_for(lambda: len(backend.requests("POST", "/state$")) >= 3)
        assert backend.runs_of("Held")[0].state == "RUNNING"
        go.set()
        assert backend.run(running.result(10)).state == "COMPLETED"


def test_a_crucial_failure_is_the_last_task(
    backend: DocumentedBackend, client: DocumentedClient
) -> None:
    run_id = client.run_flow("Bad", [Step("a", outcome="FAILED"), Step("b")])
    assert backend.run(run_id).state == "FAILED"
    assert not backend.requests("POST", "/tasks/1/")
    assert backend.requests("POST", "/complete$")[0].body == {"taskCount": 1}


def test_another_failure_is_not(backend: DocumentedBackend, client: DocumentedClient) -> None:
    run_id = client.run_flow("Fair", [Step("a", outcome="FAILED", crucial=False), Step("b")])
    run = backend.run(run_id)
    assert (run.state, [task.state for task in run.tasks]) == ("COMPLETED", ["FAILED", "COMPLETED"])


def test_the_oldest_client_never_completes(backend: DocumentedBackend) -> None:
    with DocumentedClient(backend.url, oldest=True) as client:
        run_id = client.run_flow("Old", [Step("a")])
    assert not backend.requests("POST", "/complete$")
    assert backend.run(run_id).state == "RUNNING"


def test_heartbeats_go_on_while_the_client_lives(backend: DocumentedBackend) -> None:
    with DocumentedClient(backend.url, heartbeat_interval=0.01) as client:
        client.run_flow("Alive", [Step("a")])
        backend.wait_for(lambda: len(backend.requests("POST", "/api/heartbeat")) >= 3)
    beats = len(backend.requests("POST", "/api/heartbeat"))
    client.register("Alive", [])
    assert len(backend.requests("POST", "/api/heartbeat")) == beats


# Flows and runs


def test_a_flow_is_used_up_by_one_run(backend: DocumentedBackend, client: DocumentedClient) -> None:
    flow = client.register("Once", [Step("a")])
    assert [known.name for known in backend.flows] == ["Once"]
    assert client.start_run(flow["id"])
    assert client.start_run(flow["id"]) is None
    assert client.answers[-1].status == 200
    assert client.answers[-1].body == {"success": True}
    assert backend.flows == []
    assert client.request("POST", f"/api/engine/trigger/{flow['id']}").status == 404
    assert client.start_run(client.register("Once", [Step("a")])["id"])


def test_an_unknown_flow_gives_no_run(client: DocumentedClient) -> None:
    assert client.start_run("nothing") is None
    assert client.answers[-1].body == {"success": True}


def test_registering_again_before_a_run_keeps_the_id(client: DocumentedClient) -> None:
    first = client.register("Same", [Step("a")])
    again = client.register("Same", [Step("b")])
    assert again["id"] == first["id"]
    assert [task["name"] for task in again["tasks"]] == ["b"]


def test_the_answer_to_a_registration(client: DocumentedClient) -> None:
    flow = client.register("Shares", [Step("a", estimated=1000), Step("b", estimated=3000)])
    assert flow.keys() == {"id", "name", "description", "tags", "tasks", "createdAt"}
    assert [task["weight"] for task in flow["tasks"]] == [0.25, 0.75]
    weighted = client.register("Weights", [Step("a", weight=1), Step("b", weight=1)])
    assert [task["weight"] for task in weighted["tasks"]] == [0.5, 0.5]
    mixed = client.register("Mixed", [Step("a", weight=9), Step("b")])
    assert [task["weight"] for task in mixed["tasks"]] == [0.5, 0.5]


def test_an_index_just_beyond_adds_a_task(
    backend: DocumentedBackend, client: DocumentedClient
) -> None:
    run_id = start(client, Step("a"))
    assert client.update(run_id, 1, state="RUNNING", taskName="late").status == 200
    assert client.update(run_id, 0, state="RUNNING", taskName="renamed").status == 200
    assert [task.name for task in backend.run(run_id).tasks] == ["renamed", "late"]


def test_a_gap_breaks_the_run(backend: DocumentedBackend, client: DocumentedClient) -> None:
    run_id = start(client, Step("a"))
    assert client.update(run_id, 2, state="RUNNING").status == 500
    assert backend.run(run_id).broken
    assert client.update(run_id, 0, state="RUNNING").status == 500
    assert client.complete(run_id, 1).status == 500
    assert backend.run(run_id).state == "RUNNING"


@pytest.mark.parametrize("last", ["COMPLETED", "FAILED"])
def test_nothing_follows_a_terminal_task(client: DocumentedClient, last: str) -> None:
    run_id = start(client, Step("a"), Step("b"))
    assert client.update(run_id, 0, state=last, crucialPass=False).status == 200
    for state in ("RUNNING", "COMPLETED", "FAILED"):
        assert client.update(run_id, 0, state=state).status == 404
    assert client.update(run_id, 1, state="RUNNING").status == 200


def test_nothing_follows_a_terminal_run(client: DocumentedClient) -> None:
    run_id = start(client, Step("a"), Step("b"))
    client.update(run_id, 0, state="FAILED")
    assert client.update(run_id, 1, state="RUNNING").status == 404
    assert client.complete(run_id, 1).status == 200
    assert client.log(run_id, "afterwards").status == 200


def test_an_unknown_run_is_404(client: DocumentedClient) -> None:
    assert client.update("nothing", 0, state="RUNNING").status == 404
    assert client.complete("nothing", 0).status == 404
    assert client.log("nothing", "x").status == 404
    assert client.answers[-1].body == {"success": False, "error": "Run not found"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"state": "SKIPPED"},
        {"state": "CANCELLED"},
        {"state": 7},
        {"state": "RUNNING", "progress": 101},
        {"state": "RUNNING", "progress": True},
        {"state": "COMPLETED", "durationMs": 1.5},
        {"state": "COMPLETED", "durationMs": -1},
        {"state": "COMPLETED", "result": "yes"},
        {"state": "COMPLETED", "result": {"passed": 1}},
        {"state": "COMPLETED", "result": {"passed": True, "table": {"a": 1}}},
        {"state": "RUNNING", "taskName": 5},
        {"state": "RUNNING", "crucialPass": "yes"},
    ],
    ids=str,
)
def test_a_wrong_update_is_400_and_changes_nothing(
    backend: DocumentedBackend, client: DocumentedClient, body: dict[str, Any]
) -> None:
    run_id = start(client, Step("a"))
    assert client.update(run_id, 0, **body).status == 400
    assert backend.run(run_id).tasks[0].state == "PENDING"


def test_states_are_read_in_any_letter_case(
    backend: DocumentedBackend, client: DocumentedClient
) -> None:
    run_id = start(client, Step("a"))
    assert client.update(run_id, 0, state="completed").status == 200
    assert backend.run(run_id).tasks[0].state == "COMPLETED"


def test_complete_leaves_unfinished_tasks_running(
    backend: DocumentedBackend, client: DocumentedClient
) -> None:
    run_id = start(client, Step("a"), Step("b"))
    client.update(run_id, 0, state="RUNNING")
    assert client.complete(run_id, 1).body == {"success": True}
    run = backend.run(run_id)
    assert (run.state, len(run.tasks), run.completes) == ("RUNNING", 1, 1)
    client.update(run_id, 0, state="COMPLETED")
    assert run.state == "RUNNING"
    client.complete(run_id, 1)
    assert run.state == "COMPLETED"


def test_only_a_failed_task_entry_can_fail_a_run(
    backend: DocumentedBackend, client: DocumentedClient
) -> None:
    run_id = start(client)
    client.complete(run_id, 0)
    assert backend.run(run_id).state == "COMPLETED"
    other = start(client, Step("a"))
    client.update(other, 0, state="COMPLETED")
    client.update(other, 1, state="FAILED", taskName="flow", crucialPass=True)
    assert backend.run(other).state == "FAILED"


def test_completing_twice_changes_nothing(
    backend: DocumentedBackend, client: DocumentedClient
) -> None:
    run_id = client.run_flow("Twice", [Step("a"), Step("b")])
    assert client.complete(run_id, 0).status == 200
    run = backend.run(run_id)
    assert (run.state, len(run.tasks), run.completes) == ("COMPLETED", 2, 2)
    stats = client.request("GET", "/api/statistics").body["taskStatistics"]
    assert [entry["sampleCount"] for entry in stats] == [1, 1]


def test_learned_estimates_win(backend: DocumentedBackend, client: DocumentedClient) -> None:
    backend.learn("Learned", "a", 400)
    assert client.register("Learned", [Step("a")])["tasks"][0]["estimatedTime"] == 1000
    backend.learn("Learned", "a", 600)
    flow = client.register("Learned", [Step("a"), Step("b", estimated=7)])
    assert [task["estimatedTime"] for task in flow["tasks"]] == [500, 7]
    run_id = client.start_run(flow["id"])
    assert run_id
    client.update(run_id, 0, state="RUNNING", taskName="a", estimatedTime=1)
    assert backend.run(run_id).tasks[0].estimated == 500


def test_durations_are_learned_from_completed_runs(client: DocumentedClient) -> None:
    for duration in (100, 300):
        run_id = start(client, Step("a"), name="Slow")
        client.update(run_id, 0, state="COMPLETED", durationMs=duration)
        client.complete(run_id, 1)
    assert client.register("Slow", [Step("a")])["tasks"][0]["estimatedTime"] == 200


# HTTP


def test_it_has_no_version_and_no_newer_routes(client: DocumentedClient) -> None:
    for method, path in [
        ("GET", "/api/version"),
        ("POST", "/api/ingest"),
        ("GET", "/api/runs"),
        ("GET", "/api/health"),
        ("PATCH", "/api/flows"),
    ]:
        answer = client.request(method, path)
        assert answer.status == 404
        assert f"<pre>Cannot {method} {path}</pre>" in answer.body


@pytest.mark.parametrize("body", [b'{"name": ', b"{'name': 1}", b'{"a": NaN}', b'"text"', b"\xff"])
def test_malformed_json_gets_a_page(backend: DocumentedBackend, body: bytes) -> None:
    status, kind, text = raw(backend, body)
    assert (status, kind) == (400, "text/html; charset=utf-8")
    assert text.startswith("<!DOCTYPE html>") and "SyntaxError" in text


def test_a_body_that_is_not_called_json_is_not_read(backend: DocumentedBackend) -> None:
    status, _, text = raw(backend, b'{"name": "x"}', Content_Type="text/plain")
    assert (status, json.loads(text)["success"]) == (400, False)


def test_a_body_over_100_kb_is_413(backend: DocumentedBackend, client: DocumentedClient) -> None:
    run_id = start(client)
    frame = len(json.dumps({"log": "[Task Output] "}))
    assert client.log(run_id, "x" * (100_000 - frame)).status == 200
    assert client.log(run_id, "x" * (100_001 - frame)).status == 413
    assert len(backend.run(run_id).logs) == 1
    assert raw(backend, b" " * 3_000_000)[0] == 413


def test_a_compressed_body_is_415(backend: DocumentedBackend) -> None:
    body = gzip.compress(b'{"name": "x"}')
    assert raw(backend, body, Content_Encoding="gzip")[0] == 415


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x" * 201},
        {"name": 5},
        {"name": "x", "tags": {"a": 1}},
        {"name": "x", "tasks": {}},
        {"name": "x", "tasks": [{"name": None}]},
        {"name": "x", "tasks": [{"name": "a", "estimatedTime": "1"}]},
        {"name": "x", "schedule": {"cron": "* * * * *"}},
        {"name": "x", "autoTrigger": "no"},
    ],
    ids=lambda body: str(body)[:40],
)
def test_a_wrong_registration_is_400(
    backend: DocumentedBackend, client: DocumentedClient, body: dict[str, Any]
) -> None:
    assert client.request("POST", "/api/flows", body).status == 400
    assert backend.flows == []


def test_the_journal(backend: DocumentedBackend, client: DocumentedClient) -> None:
    before = time.monotonic()
    client.request("POST", "/api/flows?a=1", {"name": "x"})
    (request,) = backend.journal
    assert (request.method, request.path, request.query) == ("POST", "/api/flows", {"a": "1"})
    assert (request.body, request.status) == ({"name": "x"}, 200)
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.raw) == request.body
    assert before <= request.at <= time.monotonic()


def test_waiting_in_vain_says_what_was_seen(backend: DocumentedBackend) -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.01 s; runs: \[\]"):
        backend.wait_for(lambda: backend.runs, timeout=0.01)


# The heartbeat


def test_silence_fails_every_run() -> None:
    with (
        DocumentedBackend(silence_limit=0.1) as backend,
        DocumentedClient(backend.url, heartbeat=False) as client,
    ):
        first, second = start(client, Step("a"), name="A"), start(client, Step("b"), name="B")
        client.update(first, 0, state="RUNNING")
        backend.wait_for(lambda: all(run.state == "FAILED" for run in backend.runs))
        assert backend.run(second).reason == "no heartbeat for 0.1 s"
        assert backend.run(first).tasks[0].state == "FAILED"
        assert client.update(first, 0, state="COMPLETED").status == 404


@pytest.mark.parametrize("sign", ["heartbeat", "poll"])
def test_a_sign_of_life_keeps_every_run(sign: str) -> None:
    with (
        DocumentedBackend(silence_limit=2, poll_timeout=0) as backend,
        DocumentedClient(backend.url, heartbeat=False) as client,
    ):
        run_id = start(client)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert (client.beat() if sign == "heartbeat" else client.poll()) or sign == "poll"
        assert backend.run(run_id).state == "RUNNING"


def test_other_requests_are_no_sign_of_life() -> None:
    with (
        DocumentedBackend(silence_limit=0.1) as backend,
        DocumentedClient(backend.url, heartbeat=False) as client,
    ):
        run_id = start(client)
        until = time.monotonic() + 10
        while backend.run(run_id).state == "RUNNING" and time.monotonic() < until:
            client.log(run_id, "still here")
        assert backend.run(run_id).state == "FAILED"


def test_long_silence_before_a_run_does_not_count() -> None:
    with (
        DocumentedBackend(silence_limit=0.5, poll_timeout=0) as backend,
        DocumentedClient(backend.url, heartbeat=False) as client,
    ):
        start(client, name="first")
        backend.wait_for(lambda: backend.runs[0].state == "FAILED")
        assert backend.run(client.run_flow("second", [Step("a")])).state == "COMPLETED"


# Execution requests


def test_a_triggered_run_is_executed(backend: DocumentedBackend, client: DocumentedClient) -> None:
    flow = client.register("Served", [Step("a")])
    triggered = client.request("POST", f"/api/engine/trigger/{flow['id']}", {"configuration": "p"})
    run_id = triggered.body["runId"]
    assert backend.run(run_id).state == "PENDING"
    assert client.serve_once() == run_id
    assert (backend.run(run_id).state, backend.run(run_id).configuration) == ("COMPLETED", "p")
    assert client.start_run(flow["id"]) is None


def test_a_waiting_poll_hears_of_a_request(backend: DocumentedBackend) -> None:
    with DocumentedClient(backend.url, heartbeat=False, poll_timeout=10) as client:
        client.register("Waiting", [])
        with ThreadPoolExecutor(1) as pool:
            poll = pool.submit(client.poll)
            backend.wait_for(lambda: backend.requests("GET", "/api/execution-requests"))
            run_id = backend.trigger("Waiting", "production")
            assert poll.result(10) == {
                "run_id": run_id,
                "flow_name": "Waiting",
                "configuration": "production",
            }


def test_a_poll_ends_with_null() -> None:
    with (
        DocumentedBackend(poll_timeout=0.01) as backend,
        DocumentedClient(backend.url, heartbeat=False) as client,
    ):
        assert client.poll() is None
        assert client.answers[-1].body is None and client.answers[-1].status == 200


def test_an_abandoned_poll_takes_nothing_with_it(backend: DocumentedBackend) -> None:
    with DocumentedClient(backend.url, heartbeat=False, poll_timeout=0.05) as client:
        client.register("Left", [Step("a")])
        assert client.poll() is None
        run_id = backend.trigger("Left")
        backend.wait_for(lambda: backend.requests("GET", "/api/execution-requests")[0].status == 0)
        assert client.serve_once() == run_id


def test_a_poll_left_just_before_a_request_takes_nothing(
    backend: DocumentedBackend, client: DocumentedClient
) -> None:
    client.register("Left", [Step("a")])
    poll = client.open_poll()
    backend.wait_for(lambda: backend.requests("GET", "/api/execution-requests"))
    poll.close()
    run_id = backend.trigger("Left")
    assert client.serve_once() == run_id


def test_each_request_goes_to_one_poller(backend: DocumentedBackend) -> None:
    with DocumentedClient(backend.url, heartbeat=False, poll_timeout=10) as client:
        for name in ("A", "B"):
            client.register(name, [])
        with ThreadPoolExecutor(2) as pool:
            polls = [pool.submit(client.poll) for _ in range(2)]
            backend.wait_for(lambda: len(backend.requests("GET", "/api/execution-requests")) == 2)
            ids = {backend.trigger("A"), backend.trigger("B")}
            answers = [poll.result(10) for poll in polls]
        assert {answer["run_id"] for answer in answers if answer} == ids


def test_auto_trigger_queues_a_run_at_once(
    backend: DocumentedBackend, client: DocumentedClient
) -> None:
    client.register("Auto", [Step("a")], auto_trigger=True)
    assert backend.flows == []
    assert backend.run(client.serve_once()).state == "COMPLETED"


def test_serving_gives_up(client: DocumentedClient) -> None:
    client.poll_timeout = 0.01
    with pytest.raises(AssertionError, match="no execution request"):
        client.serve_once(timeout=0.02)


# Part 2


def test_the_lists(backend: DocumentedBackend, client: DocumentedClient) -> None:
    first = client.run_flow("First", [Step("a", logs=["hello"])])
    second = start(client, Step("b"), name="Second")
    client.register("Third", [])
    runs = client.request("GET", "/api/engine/runs").body
    assert [run["id"] for run in runs] == [second, first]
    assert runs[1].keys() == {
        *("id", "flowId", "flowName", "state", "startTime", "endTime", "configuration", "tags"),
        *("logs", "progress", "tasks", "reportPath"),
    }
    assert (runs[1]["state"], runs[1]["progress"]) == ("COMPLETED", 100)
    assert runs[1]["startTime"].endswith("Z")
    assert runs[1]["tasks"][0].keys() == {
        *("id", "taskId", "taskName", "state", "startTime", "endTime", "durationMs", "logs"),
        *("weight", "estimatedTime", "progress", "result", "crucialPass", "performanceWarning"),
    }
    flows = client.request("GET", "/api/engine/flows").body
    assert [flow["name"] for flow in flows] == ["Third"]


def test_progress_is_the_clocks_while_it_runs(
    backend: DocumentedBackend, client: DocumentedClient
) -> None:
    run_id = start(client, Step("a", estimated=0), Step("b", estimated=0))
    client.update(run_id, 0, state="RUNNING")
    run = client.request("GET", "/api/engine/runs").body[0]
    assert (run["tasks"][0]["progress"], run["tasks"][1]["progress"]) == (99, 0)


def test_deleting_runs(client: DocumentedClient) -> None:
    running, ended = start(client, Step("a")), client.run_flow("Ended", [])
    assert client.request("DELETE", f"/api/runs/{running}").status == 409
    assert client.request("DELETE", f"/api/runs/{ended}").status == 200
    assert client.request("DELETE", f"/api/runs/{ended}").status == 404


def test_statistics_histories_and_reports(client: DocumentedClient) -> None:
    ids = [client.run_flow("Daily / ETL", [Step("a b")]) for _ in range(3)]
    name = "Daily%20%2F%20ETL"
    history = client.request("GET", f"/api/statistics/task-history/{name}/a%20b?limit=2").body
    assert [entry["runId"] for entry in history["history"]] == ids[:0:-1]
    assert history["stats"]["sampleCount"] == 3
    flows = client.request("GET", f"/api/statistics/flow-history/{name}").body
    assert [entry["id"] for entry in flows["history"]] == ids[::-1]
    report = client.request("GET", f"/api/reports/run/{ids[0]}").body["report"]
    assert (report["runId"], report["flowState"]) == (ids[0], "COMPLETED")
    reports = client.request("GET", f"/api/reports/flow/{name}").body
    assert (reports["flowName"], len(reports["reports"])) == ("Daily / ETL", 3)
    assert client.request("DELETE", "/api/statistics").body == {"success": True}
    assert client.request("GET", "/api/statistics").body["taskStatistics"] == []


# Faults


def test_fail_next(backend: DocumentedBackend, client: DocumentedClient) -> None:
    backend.fail_next(2, 503, path="/heartbeat", headers={"Retry-After": "7"})
    assert client.register("Unhurt", [])
    answers = [client.beat() for _ in range(3)]
    assert [answer.status for answer in answers] == [503, 503, 200]
    assert answers[0].body.startswith("<!DOCTYPE html>")
    assert [request.status for request in backend.requests("POST", "/heartbeat")] == [503, 503, 200]


@pytest.mark.parametrize("applied", [False, True])
def test_drop_next(backend: DocumentedBackend, client: DocumentedClient, applied: bool) -> None:
    run_id = start(client)
    backend.drop_next(applied=applied)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        client.log(run_id, "lost or not")
    assert len(backend.run(run_id).logs) == applied
    dropped = backend.journal[-1]
    assert (dropped.status, dropped.body) == (0, {"log": "[Task Output] lost or not"})
    assert client.log(run_id, "arrives").status == 200


def test_it_dies_and_comes_back_on_the_same_port(backend: DocumentedBackend) -> None:
    with DocumentedClient(backend.url, heartbeat=False, poll_timeout=10) as client:
        run_id = start(client, Step("a"))
        with ThreadPoolExecutor(1) as pool:
            poll = pool.submit(client.poll)
            backend.wait_for(lambda: backend.requests("GET", "/api/execution-requests"))
            backend.stop()
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                poll.result(10)
        with pytest.raises(ConnectionError):
            client.log(run_id, "refused")
        url = backend.url
        backend.start()
        assert backend.url == url
        assert client.update(run_id, 0, state="COMPLETED").status == 200
        assert client.complete(run_id, 1).status == 200
        assert backend.run(run_id).state == "COMPLETED"


def test_stopping_cuts_a_connection_that_says_nothing(backend: DocumentedBackend) -> None:
    with socket.create_connection(("127.0.0.1", backend.port), timeout=10) as silent:
        silent.sendall(b"POST /api/flows HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        backend.wait_for(lambda: backend._connections)
        backend.stop()
        assert silent.recv(1) == b""
    assert backend.journal == []


def test_a_failure_of_the_stand_in_itself_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="the stand-in itself failed"):
        with DocumentedBackend(on_request=lambda request: 1 / 0) as backend:  # type: ignore[arg-type]
            with DocumentedClient(backend.url) as client:
                with pytest.raises(http.client.HTTPException):
                    client.beat()


def test_by_hand() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.standins.documented_backend", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout
            url = process.stdout.readline().split()[4].rstrip(";")
            DocumentedClient(url, heartbeat=False).beat()
            assert process.stdout.readline() == "200 POST /api/heartbeat \n"
        finally:
            process.terminate()
