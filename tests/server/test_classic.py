"""Clients that know only the documented requests (parts 1 to 3 of the protocol)."""

from __future__ import annotations

import pytest

from tests.server.conftest import Running
from tests.server.peers import Peer


@pytest.fixture
def peer(shared: Running) -> Peer:
    return shared.peer()


def test_a_run_from_registration_to_completion(peer: Peer) -> None:
    flow = peer.register(
        "ETL",
        {"name": "extract", "estimatedTime": 1000},
        {"name": "load", "estimatedTime": 3000, "crucialPass": False},
        description="daily",
        tags={"team": "data"},
    )
    assert [task["weight"] for task in flow["tasks"]] == [0.25, 0.75]
    assert flow["createdAt"].endswith("Z") and len(flow["createdAt"]) == 24
    run = peer.begin(flow["id"])
    assert [task["state"] for task in peer.run(run)["tasks"]] == ["PENDING", "PENDING"]
    peer.task(
        run, 0, "running", progress=0, taskName="extract", estimatedTime=1000, crucialPass=True
    ).ok()
    shown = peer.run(run)
    assert (shown["state"], shown["tasks"][0]["state"]) == ("RUNNING", "RUNNING")
    assert 0 <= shown["progress"] < 100
    peer.post(f"/api/flows/{run}/logs", {"log": "one\ntwo\n"}).ok()
    result = {"passed": True, "note": "fine", "table": [{"rows": 3}]}
    peer.task(run, 0, "COMPLETED", progress=100, durationMs=12, result=result).ok()
    peer.task(run, 1, "RUNNING").ok()
    peer.task(run, 1, "COMPLETED", progress=100, durationMs=7).ok()
    peer.complete(run, 2).ok()
    shown = peer.run(run)
    assert shown["state"] == "COMPLETED" and shown["progress"] == 100
    assert shown["logs"] == ["one", "two"]
    assert shown["flowName"] == "ETL" and shown["tags"] == {"team": "data"}
    assert shown["configuration"] == "development"
    task = shown["tasks"][0]
    assert (task["durationMs"], task["result"], task["progress"]) == (12, result, 100)
    listed = peer.get("/api/engine/runs").ok()
    assert listed[0]["id"] == run and listed[0]["tasks"][1]["taskName"] == "load"


def test_registering_again_updates_and_keeps_the_id(peer: Peer) -> None:
    first = peer.register("again", "a")
    second = peer.register("again", "b", description="new")
    assert second["id"] == first["id"] and second["createdAt"] == first["createdAt"]
    flows = [flow for flow in peer.get("/api/engine/flows").ok() if flow["name"] == "again"]
    assert [flow["description"] for flow in flows] == ["new"]


@pytest.mark.parametrize("name", ["../x", "<img src=x onerror=alert(1)>", "x" * 200, "%2e%2e/é\n"])
def test_a_name_is_only_text(peer: Peer, name: str) -> None:
    flow = peer.register(name, name)
    assert flow["name"] == name
    run = peer.begin(flow["id"])
    peer.task(run, 0, "COMPLETED").ok()
    peer.complete(run, 1).ok()
    report = peer.get(f"/api/reports/run/{run}").ok()["report"]
    assert report["filename"] == f"{run}.html" and report["path"] == f"reports/{run}.html"
    assert peer.get(report["url"]).status == 200


@pytest.mark.parametrize("name", ["", " ", None, 7, "x" * 10_000])
def test_a_name_that_is_none_is_refused(peer: Peer, name: object) -> None:
    failure = peer.post("/api/flows", {"name": name}).refused(400)
    assert failure["error"].startswith("name")
    peer.post("/api/flows", {"name": "f", "tasks": [{"name": name}]}).refused(400)


def test_the_same_name_from_two_clients_is_two_flows(shared: Running) -> None:
    ids = {
        shared.peer(client).register("twin", "a")["id"]
        for client in ("first", "second", "first", None)
    }
    assert len(ids) == 3


def test_a_flow_stays_in_the_library_after_its_run(peer: Peer) -> None:
    flow = peer.register("stays", "a")["id"]
    assert peer.begin(flow) != peer.begin(flow)


def test_fewer_tasks_than_predefined_are_trimmed_and_weights_shared_out_anew(peer: Peer) -> None:
    run = peer.begin(peer.register("trim", "a", "b", "c", "d")["id"])
    peer.task(run, 0, "COMPLETED").ok()
    peer.task(run, 1, "COMPLETED").ok()
    peer.complete(run, 2).ok()
    shown = peer.run(run)
    assert [task["weight"] for task in shown["tasks"]] == [0.5, 0.5]
    assert (shown["state"], shown["progress"]) == ("COMPLETED", 100)


def test_more_tasks_than_predefined_are_added_and_gaps_filled(peer: Peer) -> None:
    run = peer.begin(peer.register("grow", "a")["id"])
    peer.task(run, 3, "RUNNING", taskName="late").ok()
    tasks = peer.run(run)["tasks"]
    assert [task["taskName"] for task in tasks] == ["a", "Task 1", "Task 2", "late"]
    assert [task["state"] for task in tasks] == ["PENDING", "PENDING", "PENDING", "RUNNING"]
    peer.task(run, 0, "RUNNING", taskName="renamed").ok()
    assert peer.run(run)["tasks"][0]["taskName"] == "renamed"


@pytest.mark.parametrize("index", [-1, 1_002, 10**6, 10**12, 10**30])
def test_an_index_out_of_range_is_refused(peer: Peer, index: int) -> None:
    run = peer.begin(peer.register("range", "a")["id"])
    peer.task(run, index, "RUNNING").refused(400)
    assert len(peer.run(run)["tasks"]) == 1
    peer.task(run, 1_001, "RUNNING").ok()


def test_a_failed_crucial_task_fails_the_run_at_once(peer: Peer) -> None:
    run = peer.begin(peer.register("crucial", "a", "b")["id"])
    peer.task(run, 0, "RUNNING", crucialPass=True).ok()
    peer.task(run, 0, "FAILED", durationMs=3).ok()
    shown = peer.run(run)
    assert shown["state"] == "FAILED" and shown["progress"] < 100
    peer.post(f"/api/flows/{run}/logs", {"log": "what the client says after"}).ok()
    peer.complete(run, 1).ok()
    shown = peer.run(run)
    assert shown["state"] == "FAILED" and len(shown["tasks"]) == 1
    assert shown["logs"] == ["what the client says after"]


def test_a_failed_task_that_is_not_crucial_does_not(peer: Peer) -> None:
    run = peer.begin(peer.register("lenient", "a", "b")["id"])
    peer.task(run, 0, "FAILED", crucialPass=False).ok()
    assert peer.run(run)["state"] == "RUNNING"
    peer.task(run, 1, "COMPLETED").ok()
    peer.complete(run, 2).ok()
    assert peer.run(run)["state"] == "COMPLETED"


def test_a_task_still_running_at_complete_is_failed_with_the_reason(peer: Peer) -> None:
    run = peer.begin(peer.register("open end", "a")["id"])
    peer.task(run, 0, "RUNNING").ok()
    peer.complete(run, 1).ok()
    shown = peer.run(run)
    assert (shown["state"], shown["tasks"][0]["state"]) == ("FAILED", "FAILED")
    assert "still running" in shown["tasks"][0]["reason"]


def test_complete_twice_changes_nothing(peer: Peer) -> None:
    flow = peer.register("twice", "a")["id"]
    run = peer.begin(flow)
    peer.task(run, 0, "COMPLETED", durationMs=5).ok()
    peer.complete(run, 1).ok()
    before = peer.run(run)
    peer.complete(run, 0).ok()
    assert peer.run(run) == before
    stats = peer.get("/api/statistics/task-history/twice/a").ok()["stats"]
    assert stats["sampleCount"] == 1


def test_a_terminal_state_is_final(peer: Peer) -> None:
    run = peer.begin(peer.register("final", "a", "b")["id"])
    peer.task(run, 0, "COMPLETED").ok()
    for state in ("RUNNING", "FAILED", "COMPLETED"):
        peer.task(run, 0, state).refused(409)
    peer.complete(run, 2).ok()
    peer.task(run, 1, "RUNNING").refused(409)
    tasks = peer.run(run)["tasks"]
    assert [task["state"] for task in tasks] == ["COMPLETED", "CANCELLED"]
    assert tasks[1]["reason"] == "never started"


def test_every_state_is_accepted_in_any_letter_case(peer: Peer) -> None:
    states = ["pending", "Running", "retrying", "completed", "Failed", "skipped", "cancelled"]
    run = peer.begin(peer.register("cases")["id"])
    for index, state in enumerate(states):
        peer.task(run, index, state, crucialPass=False).ok()
    assert [task["state"] for task in peer.run(run)["tasks"]] == [s.upper() for s in states]


def test_what_is_unknown_is_404(peer: Peer) -> None:
    run = "0b9a3f5e-0000-4000-8000-000000000000"
    peer.post("/api/engine/run/nothing", {}).refused(404)
    peer.post("/api/engine/trigger/nothing", {}).refused(404)
    peer.task(run, 0, "RUNNING").refused(404)
    peer.complete(run, 1).refused(404)
    peer.post(f"/api/flows/{run}/logs", {"log": "x"}).refused(404)
    for path in ("", "/logs"):
        peer.get(f"/api/runs/{run}{path}").refused(404)
    peer.get(f"/api/reports/run/{run}").refused(404)
    peer.send("DELETE", f"/api/runs/{run}").refused(404)
    peer.get("/api/nothing").refused(404)
    peer.send("PATCH", "/api/flows").refused(405)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", None),
        ("state", "DONE"),
        ("state", 7),
        ("state", ["RUNNING"]),
        ("progress", -1),
        ("progress", 101),
        ("progress", "half"),
        ("durationMs", -5),
        ("durationMs", 2**70),
        ("durationMs", 1e300),
        ("result", "fine"),
        ("taskName", ""),
        ("taskName", "x" * 201),
        ("estimatedTime", "1000"),
        ("crucialPass", 1),
    ],
)
def test_a_wrong_field_is_refused_by_name_and_changes_nothing(
    peer: Peer, field: str, value: object
) -> None:
    run = peer.begin(peer.register("wrong field", "a")["id"])
    failure = peer.post(
        f"/api/runs/{run}/tasks/0/state", {"state": "RUNNING", field: value}
    ).refused(400)
    assert field in failure["error"]
    assert peer.run(run)["tasks"][0]["state"] == "PENDING"


@pytest.mark.parametrize("count", [None, -1, "1", True, 2**70, 1.5e9])
def test_a_wrong_task_count_is_refused(peer: Peer, count: object) -> None:
    run = peer.begin(peer.register("wrong count", "a")["id"])
    failure = peer.post(f"/api/runs/{run}/complete", {"taskCount": count}).refused(400)
    assert "taskCount" in failure["error"]


def test_a_long_line_is_cut_with_a_marker(peer: Peer) -> None:
    run = peer.begin(peer.register("long line")["id"])
    peer.post(f"/api/flows/{run}/logs", {"log": "x" * 10_000_000 + "\nshort"}).ok()
    peer.post(f"/api/flows/{run}/logs", {"log": 7}).refused(400)
    lines = peer.run(run)["logs"]
    assert lines[0] == "x" * 65536 + f"… [cut, {10_000_000 - 65536} bytes]"
    assert lines[1:] == ["short"]


def test_lines_are_paged_searched_and_filtered(peer: Peer) -> None:
    run = peer.begin(peer.register("paged")["id"])
    peer.post(f"/api/flows/{run}/logs", {"log": "\n".join(f"line {i}" for i in range(25))}).ok()
    seen, after = [], 0
    while True:
        page = peer.get(f"/api/runs/{run}/logs?after={after}&limit=10").ok()
        seen += [line["text"] for line in page["logs"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert seen == [f"line {i}" for i in range(25)] and page["total"] == 25
    found = peer.get(f"/api/runs/{run}/logs?q=LINE%202").ok()["logs"]
    assert [line["seq"] for line in found] == [3, 21, 22, 23, 24, 25]
    assert peer.get(f"/api/runs/{run}/logs?q=%25").ok()["logs"] == []
    assert peer.get(f"/api/runs/{run}/logs?task=0").ok()["logs"] == []
    peer.get(f"/api/runs/{run}/logs?after=-1").refused(400)


def test_tools_have_the_same_requests_under_their_own_names(peer: Peer) -> None:
    flow = peer.post("/api/engine/register", {"name": "tool", "tasks": []}).ok()["flow"]
    run = peer.begin(flow["id"])
    peer.post(f"/api/engine/runs/{run}/logs", {"log": "hello"}).ok()
    assert peer.run(run)["logs"] == ["hello"]


def test_a_run_is_removed_with_all_that_belongs_to_it_when_it_is_over(peer: Peer) -> None:
    run = peer.begin(peer.register("removed", "a", tags={"t": "1"})["id"])
    peer.task(run, 0, "COMPLETED", result={"note": "x"}).ok()
    peer.send("DELETE", f"/api/runs/{run}").refused(409)
    peer.complete(run, 1).ok()
    peer.send("DELETE", f"/api/runs/{run}").ok()
    peer.get(f"/api/runs/{run}").refused(404)


def test_an_absurd_duration_can_be_shown(peer: Peer) -> None:
    run = peer.begin(peer.register("absurd", "a")["id"])
    peer.task(run, 0, "COMPLETED", durationMs=2**53).ok()
    peer.complete(run, 1).ok()
    task = peer.run(run)["tasks"][0]
    assert task["durationMs"] == 2**53 and task["startTime"] == "1970-01-01T00:00:00.000Z"
    peer.get("/api/statistics").ok()


def test_a_learned_estimate_replaces_the_clients(peer: Peer) -> None:
    for duration in (100, 300):
        flow = peer.register("learning", {"name": "a", "estimatedTime": 9000}, "b")
        assert flow["tasks"][0]["estimatedTime"] == 9000
        run = peer.begin(flow["id"])
        peer.task(run, 0, "COMPLETED", durationMs=duration).ok()
        peer.task(run, 1, "COMPLETED", durationMs=600).ok()
        peer.complete(run, 2).ok()
    flow = peer.register("learning", {"name": "a", "estimatedTime": 9000}, "b")
    assert [task["estimatedTime"] for task in flow["tasks"]] == [200, 600]
    assert [task["weight"] for task in flow["tasks"]] == [0.25, 0.75]
    run = peer.begin(flow["id"])
    peer.task(run, 0, "RUNNING", estimatedTime=9000).ok()
    assert peer.run(run)["tasks"][0]["estimatedTime"] == 200


def test_a_triggered_run_is_pending_until_it_is_handed_over(shared: Running) -> None:
    peer = shared.peer("documented")
    flow = peer.register("triggered", "a")["id"]
    run = peer.post(f"/api/engine/trigger/{flow}", {"configuration": "prod"}).ok()["runId"]
    assert peer.run(run)["state"] == "PENDING"
    request = peer.poll()
    assert request["run_id"] == run and request["configuration"] == "prod"
    assert request["flow_name"] == "triggered" and "lease" not in request
    assert peer.run(run)["state"] == "RUNNING"
    assert peer.poll() is None
    peer.task(run, 0, "COMPLETED").ok()
    peer.complete(run, 1).ok()
    assert peer.run(run)["state"] == "COMPLETED"


def test_auto_trigger_queues_a_run_at_once(shared: Running) -> None:
    peer = shared.peer("auto")
    peer.register("auto", "a", autoTrigger=True, autoTriggerConfig="nightly")
    request = peer.poll()
    assert (request["flow_name"], request["configuration"]) == ("auto", "nightly")
