"""Cancelling runs, running them again, and requests that nobody takes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until
from tests.server.test_dispatch import _trigger, _waiting, polling


def _claim(peer: Peer, request: Any) -> None:
    path = f"/api/execution-requests/{request['run_id']}/claim"
    peer.post(path, {"lease": request["lease"]}).ok()


def _cancel(peer: Peer, run: str) -> Any:
    return peer.post(f"/api/runs/{run}/cancel").ok()


# --- cancel --------------------------------------------------------------------------------------


def test_a_queued_run_is_cancelled_at_once(launch: Callable[..., Running]) -> None:
    backend = launch(poll=0.1)
    peer = backend.peer("c")
    run = _trigger(peer, peer.register("flow", "a", "b")["id"])
    answer = _cancel(backend.peer(), run)
    assert (answer["state"], answer["cancelling"]) == ("CANCELLED", False)
    shown = peer.run(run)
    assert (shown["state"], shown["reason"]) == ("CANCELLED", "cancelled from the dashboard")
    assert [task["state"] for task in shown["tasks"]] == ["CANCELLED", "CANCELLED"]
    assert peer.poll(slots=1) is None


def test_a_run_that_is_offered_is_cancelled_and_can_no_longer_be_claimed(
    launch: Callable[..., Running],
) -> None:
    peer = launch().peer("c")
    run = _trigger(peer, peer.register("flow")["id"])
    request = peer.poll(slots=1)
    _cancel(peer, run)
    refused = peer.post(f"/api/execution-requests/{run}/claim", {"lease": request["lease"]})
    assert "CANCELLED" in refused.refused(409)["error"]


def test_every_answer_to_the_session_names_the_run_until_it_has_ended(
    launch: Callable[..., Running],
) -> None:
    backend = launch(poll=5.0, heartbeat=0.2)
    peer, other = backend.peer("c"), backend.peer("c")
    run = str(uuid.uuid4())
    peer.ingest(started(run, "flow", "a", "b"))
    with polling(peer, slots=0) as answers, polling(other, slots=0) as others:
        _waiting(backend, 2)
        answer = _cancel(backend.peer(), run)
        assert (answer["state"], answer["cancelling"]) == ("RUNNING", True)
        wait_until(lambda: answers)
        assert not others
        backend.server.backend.waiting.close()
    backend.server.backend.waiting.closed = False
    assert answers == [{"cancel": run}]
    assert peer.run(run)["cancelling"] is True
    assert peer.post("/api/heartbeat").ok()["cancel"] == [run]
    assert other.post("/api/heartbeat").ok()["cancel"] == []
    line = {"type": "log", "run": run, "text": "still here"}
    assert peer.ingest(line)["cancel"] == [run]
    # a poll says it again, though not in a hurry
    assert peer.poll(slots=0) == {"cancel": run}
    _cancel(peer, run)
    peer.ingest({**ended(run, 0, "CANCELLED"), "task_count": None, "reason": "told to"})
    shown = peer.run(run)
    assert (shown["state"], shown["reason"], shown["cancelling"]) == ("CANCELLED", "told to", False)
    assert [task["state"] for task in shown["tasks"]] == ["CANCELLED", "CANCELLED"]
    assert peer.post("/api/heartbeat").ok()["cancel"] == []
    assert "CANCELLED" in peer.post(f"/api/runs/{run}/cancel").refused(409)["error"]


def test_a_client_that_was_told_and_ended_otherwise_has_the_last_word(shared: Running) -> None:
    peer, run = shared.peer("c"), str(uuid.uuid4())
    peer.ingest(started(run, "flow"))
    _cancel(peer, run)
    peer.ingest(ended(run, 0))
    assert peer.run(run)["state"] == "COMPLETED"


def test_a_client_that_can_not_be_told_is_waited_for(launch: Callable[..., Running]) -> None:
    peer = launch(silence=0.3).peer()
    run = peer.begin(peer.register("flow", "a")["id"])
    peer.post("/api/heartbeat").ok()
    assert _cancel(peer, run)["cancelling"] is True
    wait_until(lambda: peer.get(f"/api/runs/{run}").json["state"] != "RUNNING")
    shown = peer.run(run)
    assert (shown["state"], shown["inferred"]) == ("CANCELLED", True)
    assert shown["reason"].startswith("cancelled from the dashboard; no sign of life")


def test_a_cancelled_run_of_a_client_that_is_gone_survives_a_restart(
    launch: Callable[..., Running],
) -> None:
    backend = launch()
    session, run = str(uuid.uuid4()), str(uuid.uuid4())
    peer = backend.peer("c", session)
    peer.ingest(started(run, "flow"))
    _cancel(peer, run)
    backend.server.stop()
    peer = launch().peer("c", session)
    assert peer.post("/api/heartbeat").ok()["cancel"] == [run]
    assert peer.poll(slots=1) == {"cancel": run}


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_run_that_is_not_there(shared: Running, action: str) -> None:
    shared.peer().post(f"/api/runs/{uuid.uuid4()}/{action}").refused(404)


# --- retry ---------------------------------------------------------------------------------------


def test_a_retry_has_the_configuration_and_parameters_of_the_run(
    launch: Callable[..., Running],
) -> None:
    backend = launch(poll=0.1)
    peer = backend.peer("c")
    flow = peer.register("flow", "a")["id"]
    run = _trigger(peer, flow, configuration="prod", parameters={"n": [1, 2]})
    peer.post(f"/api/runs/{run}/retry").refused(409)
    _claim(peer, peer.poll(slots=1))
    assert "RUNNING" in peer.post(f"/api/runs/{run}/retry").refused(409)["error"]
    # what the client shows of the parameters is not what was asked for
    shown = {**started(run, "flow", "a"), "configuration": "prod", "parameters": {"n": "…"}}
    peer.ingest({**shown, "trigger": "request"}, ended(run, 0, "FAILED"))
    answer = peer.post(f"/api/runs/{run}/retry").ok()
    assert (answer["retryOf"], answer["resumes"]) == (run, False)
    assert "as a whole" in answer["note"]
    request = peer.poll(slots=1)
    assert (request["run_id"], request["retry_of"]) == (answer["runId"], run)
    assert (request["configuration"], request["parameters"]) == ("prod", {"n": [1, 2]})
    again = peer.run(answer["runId"])
    assert (again["retryOf"], again["reason"]) == (run, answer["note"])
    _claim(peer, request)
    peer.ingest(started(answer["runId"], "flow", "a"), ended(answer["runId"], 1))
    assert peer.run(answer["runId"])["reason"] == answer["note"]


def test_a_retry_says_whether_it_goes_on_from_the_failed_tasks(shared: Running) -> None:
    peer = shared.peer("keeps")
    for state, resumes in (("FAILED", True), ("CANCELLED", True), ("COMPLETED", False)):
        run = str(uuid.uuid4())
        begin = started(run, "flow", "a")
        begin["flow"]["resumes"] = True
        peer.ingest(begin, ended(run, 1, state))
        answer = peer.post(f"/api/runs/{run}/retry").ok()
        assert answer["resumes"] is resumes
        assert ("as a whole" in answer["note"]) is not resumes
        assert answer["note"] in peer.run(answer["runId"])["reason"]


def test_a_retry_of_a_run_without_a_flow_is_refused(shared: Running) -> None:
    peer, run = shared.peer("c"), str(uuid.uuid4())
    peer.ingest({"type": "log", "run": run, "text": "all there is"}, ended(run, 0))
    assert "flow" in peer.post(f"/api/runs/{run}/retry").refused(409)["error"]


# --- what nobody takes ---------------------------------------------------------------------------


def test_a_request_that_is_never_claimed_fails_after_three_offers(
    launch: Callable[..., Running],
) -> None:
    backend = launch(lease=0.05)
    peer = backend.peer("c")
    run = _trigger(peer, peer.register("flow", "a")["id"])
    requests = []
    while peer.run(run)["state"] == "PENDING":
        requests.append(peer.poll(slots=1))
    leases = [request["lease"] for request in requests if request is not None]
    assert len(leases) == len(set(leases)) == 3
    shown = peer.run(run)
    assert shown["state"] == "FAILED"
    assert shown["reason"] == "it was offered 3 times, and no client claimed it"
    refused = peer.post(f"/api/execution-requests/{run}/claim", {"lease": leases[-1]})
    assert "FAILED" in refused.refused(409)["error"]


def test_a_claim_in_the_last_moment_counts(launch: Callable[..., Running]) -> None:
    peer = launch(lease=0.05, offers=1, sweep=30.0).peer("c")
    run = _trigger(peer, peer.register("flow")["id"])
    request = peer.poll(slots=1)
    time.sleep(0.1)  # the lease ends
    assert peer.poll(slots=1) is None
    _claim(peer, request)
    assert peer.run(run)["state"] == "RUNNING"


def test_a_run_that_no_client_can_execute_says_so_and_is_given_up(
    launch: Callable[..., Running],
) -> None:
    backend = launch(silence=0.2, request_expiry=3.0)
    gone = backend.peer("c")
    flow = gone.register("flow", "a")["id"]
    run = _trigger(gone, flow)
    looking = backend.peer("page")  # what its own session asked would be a sign of life
    why = "no connected client has this flow"
    # Until its session is taken for gone, the reason may come and go.
    wait_until(lambda: looking.run(run)["reason"] == why)
    wait_until(lambda: looking.get("/api/runs").ok()["runs"][0]["reason"] == why)
    wait_until(lambda: looking.run(run)["state"] != "PENDING")
    shown = looking.run(run)
    assert (shown["state"], shown["reason"]) == ("FAILED", "no client has taken it within 3 s")


def test_the_reason_goes_when_a_client_comes_and_comes_when_it_goes(
    launch: Callable[..., Running],
) -> None:
    backend = launch(silence=0.3, poll=0.1)
    peer = backend.peer("c")
    flow = peer.register("flow")["id"]
    first, second = _trigger(peer, flow), _trigger(peer, flow)
    assert peer.poll(slots=1)["run_id"] == first
    assert peer.run(second)["reason"] is None
    wait_until(lambda: peer.run(second)["reason"] == "no connected client has this flow")


# --- whose turn it is ----------------------------------------------------------------------------


def test_flows_take_turns_and_each_is_first_in_first_out(launch: Callable[..., Running]) -> None:
    peer = launch().peer()
    flows = {name: peer.register(name)["id"] for name in "abc"}
    runs = {"a": [_trigger(peer, flows["a"]) for _ in range(6)]}
    got = [peer.poll() for _ in range(2)]
    runs["b"] = [_trigger(peer, flows["b"]) for _ in range(2)]
    runs["c"] = [_trigger(peer, flows["c"])]
    got += [peer.poll() for _ in range(7)]
    assert "".join(request["flow_name"] for request in got) == "aaabcabaa"
    for name, expected in runs.items():
        assert [r["run_id"] for r in got if r["flow_name"] == name] == expected


def test_what_others_have_queued_does_not_hold_up_a_session(launch: Callable[..., Running]) -> None:
    backend = launch(poll=0.1)
    absent, peer = backend.peer("absent"), backend.peer("c")
    for number in range(30):
        _trigger(absent, absent.register(f"flow {number}")["id"])
    assert peer.poll(slots=1) is None
    run = _trigger(peer, peer.register("mine")["id"])
    assert peer.poll(slots=1)["run_id"] == run
