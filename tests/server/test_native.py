"""Native events: `POST /api/ingest`."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import uuid
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from perfect.server import Limits
from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until


@pytest.fixture
def peer(shared: Running) -> Peer:
    return shared.peer("native")


def _task(run: str, index: int, state: str = "COMPLETED", **more: Any) -> dict[str, Any]:
    return {"type": "task", "run": run, "index": index, "name": f"t{index}", "state": state, **more}


def _log(run: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "log", "run": run, "stream": "stdout", "text": text, **more}


def test_the_handshake_says_that_this_is_native(peer: Peer) -> None:
    answer = peer.get("/api/version").ok()
    assert (answer["name"], answer["protocol"]) == ("perfect", 2)
    assert answer["limits"]["body"] == 16 * 1024 * 1024 and answer["limits"]["log_line"] == 65536


def test_flows_are_registered_together_and_a_wrong_one_does_not_hold_up_the_others(
    peer: Peer,
) -> None:
    given = [{"name": "first of many", "tasks": [{"name": "a"}]}, {"tasks": []}, 3]
    last = {"name": "last of many", "autoTrigger": True}
    for _ in range(2):
        answer = peer.post("/api/flows/batch", {"flows": [*given, last]}).ok()
        assert [one["index"] for one in answer["rejected"]] == [1, 2]
        assert answer["rejected"][0]["error"].startswith("name=")
    known = [one for one in peer.get("/api/engine/flows").ok() if one["name"].endswith("of many")]
    assert [one["name"] for one in known] == ["first of many", "last of many"]
    assert [task["name"] for task in known[0]["tasks"]] == ["a"]
    runs = peer.get("/api/runs?flow=last of many".replace(" ", "%20")).ok()["runs"]
    assert [run["state"] for run in runs] == ["PENDING"] * 2


def test_a_registration_of_many_is_limited(peer: Peer) -> None:
    most = peer.get("/api/version").ok()["limits"]["flows"]
    answer = peer.post("/api/flows/batch", {"flows": [{}] * (most + 1)})
    assert answer.status == 413 and f"more than {most}" in answer.json["error"]
    for wrong in ({}, {"flows": {}}, {"flows": None}):
        assert peer.post("/api/flows/batch", wrong).status == 400


def test_a_whole_run_in_one_request(peer: Peer, run_id: str) -> None:
    t = 1_700_000_000_000
    answer = peer.ingest(
        {
            **started(run_id, "whole", "t0", "t1", "never called"),
            "configuration": "prod",
            "parameters": {"day": "2026-11-21"},
        },
        _task(run_id, 0, started=t, ended=t + 250, estimate=500, weight=2, crucial=True, attempt=1),
        _log(run_id, "hello", index=0, t=t + 5, level="INFO"),
        _task(
            run_id,
            1,
            "FAILED",
            started=t + 250,
            ended=t + 300,
            crucial=False,
            attempt=3,
            upstream=[0],
            result={"passed": False, "note": "no", "table": [{"a": 1}]},
            error={"type": "ValueError", "message": "bad", "traceback": "…"},
        ),
        ended(run_id, 2),
    )
    assert answer == {"success": True, "committed": 5, "rejected": [], "cancel": []}
    run = peer.run(run_id)
    assert (run["state"], run["flowName"], run["configuration"]) == ("COMPLETED", "whole", "prod")
    assert run["parameters"] == {"day": "2026-11-21"}
    assert run["startTime"] == "2023-11-14T22:13:20.000Z" and run["durationMs"] == 1000
    first, second = run["tasks"]
    assert (first["durationMs"], first["state"], first["logs"]) == (250, "COMPLETED", ["hello"])
    assert (second["attempt"], second["upstream"], second["crucialPass"]) == (3, [0], False)
    assert second["error"]["type"] == "ValueError" and second["result"]["table"] == [{"a": 1}]
    line = peer.get(f"/api/runs/{run_id}/logs").ok()["logs"][0]
    assert (line["level"], line["task"], line["stream"]) == ("INFO", 0, "stdout")


def test_a_run_grows_over_many_requests(peer: Peer, run_id: str) -> None:
    peer.ingest(started(run_id, "grows", "t0"))
    assert peer.run(run_id)["state"] == "RUNNING"
    peer.ingest(_task(run_id, 0, "RUNNING", started=1_700_000_000_000))
    peer.ingest(_task(run_id, 0, "RETRYING", attempt=1))
    peer.ingest(_task(run_id, 0, "RUNNING", attempt=2, started=1_700_000_001_000))
    # an end may come without the start that was told before
    peer.ingest(
        {
            "type": "task",
            "run": run_id,
            "index": 0,
            "state": "COMPLETED",
            "ended": 1_700_000_001_500,
        }
    )
    task = peer.run(run_id)["tasks"][0]
    assert (task["state"], task["durationMs"], task["attempt"]) == ("COMPLETED", 500, 2)
    assert task["taskName"] == "t0"


def test_any_event_may_create_its_run(peer: Peer, run_id: str) -> None:
    peer.ingest(_log(run_id, "first"))
    assert peer.run(run_id)["flowName"] == ""
    peer.ingest(_task(run_id, 0), started(run_id, "named later", "t0", "t1"))
    run = peer.run(run_id)
    assert run["flowName"] == "named later"
    assert [task["state"] for task in run["tasks"]] == ["COMPLETED", "PENDING"]


def test_replayed_events_are_harmless(peer: Peer, run_id: str) -> None:
    events = [
        {"seq": 10, **started(run_id, "replayed")},
        {"seq": 20, **_log(run_id, "once")},
        {"seq": 30, **_task(run_id, 0)},
    ]
    assert peer.ingest(*events)["committed"] == 30
    assert peer.ingest(*events)["committed"] == 30
    assert peer.ingest(*events, {"seq": 31, **_log(run_id, "twice")})["rejected"] == []
    # gaps are legal, what lies in them later is not
    assert peer.ingest({"seq": 25, **_log(run_id, "late")})["committed"] == 31
    assert peer.run(run_id)["logs"] == ["once", "twice"]


def test_one_bad_event_is_refused_by_itself(peer: Peer, run_id: str) -> None:
    bad: list[Any] = [
        {"type": "nonsense", "run": run_id},
        {"run": run_id},
        {"type": ["task"], "run": run_id},
        {"type": "task", "run": "../x"},
        {"type": "task", "run": {"a": 1}},
        {"type": "task"},
        _task(run_id, -1),
        _task(run_id, 5_000),
        _task(run_id, 2**60),
        _task(run_id, 0, "DONE"),
        _task(run_id, 0) | {"index": "0"},
        _task(run_id, 0) | {"index": True},
        _task(run_id, 0) | {"name": ""},
        _task(run_id, 0) | {"name": "x" * 10_000},
        _task(run_id, 0) | {"name": 5},
        _task(run_id, 0, started="now"),
        _task(run_id, 0, started=2**63),
        _task(run_id, 0, ended=-1),
        _task(run_id, 0, started=253_402_300_800_000),
        _task(run_id, 0, estimate=1e300),
        _task(run_id, 0, weight=-1),
        _task(run_id, 0, crucial="yes"),
        _task(run_id, 0, progress=101),
        _task(run_id, 0, attempt=0),
        _task(run_id, 0, upstream="0"),
        _task(run_id, 0, upstream=[-1]),
        _task(run_id, 0, map_index=-1),
        _task(run_id, 0, result=[1]),
        _task(run_id, 0, error="boom"),
        _task(run_id, 0, reason=5),
        _task(run_id, 0, attempts={"attempt": 1}),
        _task(run_id, 0, attempts=[1]),
        _task(run_id, 0, attempts=[{}]),
        _task(run_id, 0, attempts=[{"attempt": 0}]),
        _task(run_id, 0, attempts=[{"attempt": True}]),
        _task(run_id, 0, attempts=[{"attempt": 1}, {"attempt": "2"}]),
        _task(run_id, 0, attempts=[{"attempt": 1, "started": "now"}]),
        _task(run_id, 0, attempts=[{"attempt": 1, "ended": 2**63}]),
        _task(run_id, 0, attempts=[{"attempt": 1, "error": "boom"}]),
        _task(run_id, 0, attempts=[{"attempt": 1, "reason": 5}]),
        _task(run_id, 0, attempts=[{"attempt": 1, "worker": 5}]),
        _task(run_id, 0, attempts=[{"attempt": 1, "worker": "x" * 1_001}]),
        _log(run_id, "x") | {"text": 5},
        _log(run_id, "x") | {"text": None},
        _log(run_id, "x", index=-1),
        _log(run_id, "x") | {"stream": "tape"},
        _log(run_id, "x", level=5),
        _log(run_id, "x", t="noon"),
        started(run_id, ""),
        started(run_id, "x" * 10_000),
        {**started(run_id, "f"), "flow": None},
        {**started(run_id, "f"), "trigger": "magic"},
        {
            **started(run_id, "f"),
            "flow": {"name": "f", "tasks": [{"name": "a"}], "edges": [[0, 1]]},
        },
        {**started(run_id, "f"), "parent": "../x"},
        {**started(run_id, "f"), "parameters": [1]},
        {"type": "run.ended", "run": run_id, "state": "RUNNING"},
        {"type": "run.ended", "run": run_id, "state": "COMPLETED", "task_count": -1},
    ]
    events = [started(run_id, "spoiled")]
    for event in bad:
        events += [event, _log(run_id, "fine")]
    answer = peer.ingest(*events)
    assert [refusal["seq"] for refusal in answer["rejected"]] == list(range(2, len(events) + 1, 2))
    assert all(refusal["error"] for refusal in answer["rejected"])
    run = peer.run(run_id)
    assert run["logs"] == ["fine"] * len(bad)
    assert run["tasks"] == [] and run["state"] == "RUNNING"


@pytest.mark.parametrize("event", [None, 5, "x", [], {}, {"seq": 0}, {"seq": "1"}, {"seq": 1.5}])
def test_an_event_without_a_number_is_refused(peer: Peer, event: Any) -> None:
    answer = peer.post("/api/ingest", {"events": [event]}).ok()
    assert len(answer["rejected"]) == 1 and answer["committed"] == 0


def test_a_run_belongs_to_the_session_that_used_it_first(shared: Running, run_id: str) -> None:
    owner, other = shared.peer("same client"), shared.peer("same client")
    owner.ingest(started(run_id, "owned", "t0"))
    answer = other.ingest(_log(run_id, "not mine"), ended(run_id, 0, "FAILED"))
    assert [refusal["seq"] for refusal in answer["rejected"]] == [1, 2]
    assert "another session" in answer["rejected"][0]["error"]
    other.task(run_id, 0, "FAILED").refused(409)
    run = owner.run(run_id)
    assert (run["state"], run["logs"]) == ("RUNNING", [])


def test_the_client_decides_how_a_run_ended(peer: Peer) -> None:
    failed_task, failed_run = str(uuid.uuid4()), str(uuid.uuid4())
    peer.ingest(started(failed_task, "f"), _task(failed_task, 0, "FAILED", crucial=True))
    assert peer.run(failed_task)["state"] == "RUNNING"
    peer.ingest(ended(failed_task, 1, "COMPLETED"))
    assert peer.run(failed_task)["state"] == "COMPLETED"
    error = {"type": "ValueError", "message": "outside any task", "traceback": "…"}
    peer.ingest(
        started(failed_run, "f"),
        _task(failed_run, 0),
        {**ended(failed_run, 1, "FAILED"), "error": error},
    )
    run = peer.run(failed_run)
    assert (run["state"], run["error"]) == ("FAILED", error)


def test_what_ended_is_final_but_late_lines_are_kept(peer: Peer, run_id: str) -> None:
    peer.ingest(started(run_id, "final"), _task(run_id, 0), ended(run_id, 1))
    answer = peer.ingest(
        _task(run_id, 0, "RUNNING"),
        _task(run_id, 1),
        ended(run_id, 1, "FAILED"),
        _log(run_id, "late"),
    )
    assert [refusal["seq"] for refusal in answer["rejected"]] == [4, 5, 6]
    run = peer.run(run_id)
    assert (run["state"], len(run["tasks"]), run["logs"]) == ("COMPLETED", 1, ["late"])


def test_tasks_that_did_not_end_are_closed_with_their_run(peer: Peer) -> None:
    failed, cancelled = str(uuid.uuid4()), str(uuid.uuid4())
    for run in (failed, cancelled):
        peer.ingest(
            started(run, "open", "t0", "t1"), _task(run, 0, "RUNNING", started=1_700_000_000_000)
        )
    peer.ingest(ended(failed, 2, "FAILED"), ended(cancelled, 2, "CANCELLED"))
    tasks = peer.run(failed)["tasks"]
    assert [task["state"] for task in tasks] == ["FAILED", "CANCELLED"]
    assert (tasks[1]["reason"], tasks[1]["startTime"]) == ("never started", None)
    run = peer.run(cancelled)
    assert [task["state"] for task in run["tasks"]] == ["CANCELLED", "CANCELLED"]
    assert run["state"] == "CANCELLED" and "still running" in run["tasks"][0]["reason"]


def test_a_gap_in_the_numbering_is_filled(peer: Peer, run_id: str) -> None:
    peer.ingest(started(run_id, "gap"), _task(run_id, 2), _task(run_id, 0))
    tasks = peer.run(run_id)["tasks"]
    assert [task["state"] for task in tasks] == ["COMPLETED", "PENDING", "COMPLETED"]
    assert [task["taskName"] for task in tasks] == ["t0", "Task 1", "t2"]


def test_a_long_line_is_cut_with_a_marker(peer: Peer, run_id: str) -> None:
    peer.ingest(_log(run_id, "é" * 5_000_000), _log(run_id, "nul \x00 seen"))
    long, nul = peer.run(run_id)["logs"]
    assert long == "é" * 32768 + f"… [cut, {10_000_000 - 65536} bytes]"
    assert nul == "nul ␀ seen"


def test_lines_are_numbered_in_order(peer: Peer, run_id: str) -> None:
    for start in range(0, 3_000, 1_000):
        peer.ingest(*(_log(run_id, str(i)) for i in range(start, start + 1_000)))
    page = peer.get(f"/api/runs/{run_id}/logs?after=2995").ok()
    assert [(line["seq"], line["text"]) for line in page["logs"]] == [
        (i, str(i - 1)) for i in range(2996, 3001)
    ]
    run = peer.run(run_id)
    assert run["logs"][0].startswith("… [2000 earlier lines") and run["logs"][-1] == "2999"


def test_progress_is_computed_from_weights_and_estimates(peer: Peer, run_id: str) -> None:
    peer.ingest(
        started(run_id, "progress"),
        _task(run_id, 0, weight=3),
        _task(run_id, 1, "RUNNING", weight=1, progress=50),
        _task(run_id, 2, "PENDING", weight=4),
    )
    assert peer.run(run_id)["progress"] == pytest.approx((3 * 100 + 50) / 8, abs=0.01)
    listed = peer.get(f"/api/runs?q={run_id}").ok()["runs"][0]
    assert listed["progress"] == peer.run(run_id)["progress"]


def test_a_task_that_takes_unusually_long_is_marked(peer: Peer) -> None:
    t = 1_700_000_000_000
    for duration in (100, 110, 90, 5_000):
        run = str(uuid.uuid4())
        peer.ingest(
            started(run, "slow"), _task(run, 0, started=t, ended=t + duration), ended(run, 1)
        )
    runs = peer.get("/api/runs?flow=slow").ok()["runs"]
    marks = [peer.run(run["id"])["tasks"][0]["performanceWarning"] for run in runs]
    assert sorted(marks) == [False, False, False, True]


# --- bodies --------------------------------------------------------------------------------------


def test_gzip_is_accepted(peer: Peer, run_id: str) -> None:
    body = gzip.compress(json.dumps({"events": [{"seq": 1, **_log(run_id, "squeezed")}]}).encode())
    peer.post("/api/ingest", body, headers={"Content-Encoding": "gzip"}).ok()
    assert peer.run(run_id)["logs"] == ["squeezed"]


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(b" " * (17 * 1024 * 1024)), "gzip", 413),
        (gzip.compress(b"\0" * (500 * 1024 * 1024), 9), "gzip", 413),
        (b" " * (17 * 1024 * 1024), "identity", 413),
        (gzip.compress(b'{"events": []}')[:-4], "gzip", 400),
        (gzip.compress(b'{"events": []}') + b"more", "gzip", 400),
        (b"not gzip", "gzip", 400),
        (zlib.compress(b"{}"), "deflate", 415),
        (b"{}", "br", 415),
    ],
    ids=["17 MiB", "bomb", "17 MiB plain", "cut off", "trailing", "plain", "deflate", "br"],
)
def test_a_body_that_is_too_large_or_not_what_it_says(
    peer: Peer, body: bytes, encoding: str, status: int
) -> None:
    for path in ("/api/ingest", "/api/flows"):
        peer.post(path, body, headers={"Content-Encoding": encoding}).refused(status)


_BAD_JSON = {
    "nothing": b"",
    "cut off": b'{"events": [',
    "not an object": b"[]",
    "no events": b"{}",
    "events no list": b'{"events": {}}',
    "NaN": b'{"events": [NaN]}',
    "infinity": b'{"events": [{"seq": 1, "t": Infinity}]}',
    "surrogate": b'{"events": [{"text": "\\ud800"}]}',
    "not utf-8": b'{"events": ["\xff"]}',
    "raw NUL": b'{"events": ["\x00"]}',
    "deep": b'{"events": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", _BAD_JSON.values(), ids=_BAD_JSON.keys())
def test_bad_json_is_400(peer: Peer, body: bytes) -> None:
    peer.post("/api/ingest", body).refused(400)


@pytest.mark.parametrize("depth", [65, 1_000, 100_000])
def test_deep_json_is_refused(peer: Peer, run_id: str, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    peer.post("/api/flows", b'{"name": "deep", "parameters": {"x": ' + deep + b"}}").refused(400)
    event = b'{"seq": 1, "type": "task", "run": "%s", "index": 0, "state": "COMPLETED", "result": {"table": %s}}'
    body = b'{"events": [' + event % (run_id.encode(), deep) + b"]}"
    answer = peer.post("/api/ingest", body)
    if depth > 1_000:
        answer.refused(400)
    else:
        assert "deeper than 64" in answer.ok()["rejected"][0]["error"]


def test_huge_numbers_are_refused_one_by_one(peer: Peer, run_id: str) -> None:
    big = "9" * 400
    events = ", ".join(
        f'{{"seq": {seq}, "type": "task", "run": "{run_id}", "index": 0, "state": "RUNNING", "{field}": {big}}}'
        for seq, field in enumerate(("started", "estimate", "weight", "attempt", "map_index"), 1)
    )
    answer = peer.post("/api/ingest", f'{{"events": [{events}]}}'.encode())
    # the parser may refuse such a number altogether; then the client hears 400
    assert answer.status == 400 or len(answer.ok()["rejected"]) == 5


def test_the_largest_numbers_that_are_taken_can_be_shown(peer: Peer, run_id: str) -> None:
    late, most = 253_402_300_799_999, 2**53
    events = [
        {**_task(run_id, i, started=0, ended=late, estimate=most, weight=most), "t": late}
        for i in range(1_100)
    ]
    running = _task(run_id, 1_100, "RUNNING", started=late, estimate=most)
    assert peer.ingest(started(run_id, "huge", t=0), *events, running)["rejected"] == []
    assert peer.run(run_id)["progress"] > 90
    assert peer.ingest(ended(run_id, 1_101, "FAILED", t=late))["rejected"] == []
    run = peer.run(run_id)
    assert run["endTime"] == "9999-12-31T23:59:59.999Z" and run["durationMs"] == late
    assert peer.get(run["reportPath"]).status == 200
    stats = peer.get("/api/statistics/task-history/huge/t5").ok()["stats"]
    assert stats["avgDurationMs"] == late


def test_events_need_a_session(shared: Running, run_id: str) -> None:
    failure = shared.peer().post("/api/ingest", {"events": []}).refused(400)
    assert "X-Perfect-Session" in failure["error"]
    shared.peer("c", "no good\t").post("/api/ingest", {"events": []}).refused(400)


def test_limits_are_settings(launch: Callable[..., Running], run_id: str) -> None:
    backend = launch(limits=Limits(body=2_000, log_line=10, name=5, index_gap=1, tasks=4))
    peer = backend.peer("c")
    peer.post("/api/ingest", b" " * 2_001).refused(413)
    answer = peer.ingest(
        started(run_id, "f"),
        _log(run_id, "0123456789ab"),
        _task(run_id, 2),
        _task(run_id, 1),
        _task(run_id, 3),
        _task(run_id, 4),
        {**_task(run_id, 0), "name": "too long"},
    )
    assert [refusal["seq"] for refusal in answer["rejected"]] == [3, 6, 7]
    run = peer.run(run_id)
    assert run["logs"] == ["0123456789… [cut, 2 bytes]"] and len(run["tasks"]) == 4


def test_overload_is_503_with_retry_after(launch: Callable[..., Running], run_id: str) -> None:
    backend = launch(queue_bytes=1_000)
    hold, held = threading.Event(), threading.Event()

    def block(_tx: object, _context: object) -> None:
        held.set()
        hold.wait(20)

    def blocking() -> None:
        asyncio.run(backend.server.backend.write(block))

    peer, other = backend.peer("c"), backend.peer("c")
    for each in (peer, other):
        each.post("/api/heartbeat").ok()
    line = {"seq": 1, **_log(run_id, "x" * 900)}
    threads = [
        threading.Thread(target=blocking),
        threading.Thread(target=lambda: peer.ingest(line)),
    ]
    try:
        threads[0].start()
        assert held.wait(20)
        threads[1].start()
        wait_until(lambda: backend.server.backend._writer._waiting_bytes)
        answer = other.post("/api/ingest", {"events": [], "padding": "x" * 200})
        answer.refused(503)
        assert int(answer.headers["retry-after"]) > 0
    finally:
        hold.set()
        for thread in threads:
            thread.join(20)
    assert peer.run(run_id)["logs"] == ["x" * 900]


_JSON = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(-(2**70), 2**70)
    | some.floats()
    | some.text(max_size=20),
    lambda inner: some.lists(inner, max_size=4)
    | some.dictionaries(some.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
_FIELDS = (
    "seq type run t index name state attempt started ended estimate weight crucial upstream map_index "
    "progress result error reason attempts stream level text flow configuration parameters parent trigger task_count"
).split()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    events=some.lists(some.dictionaries(some.sampled_from(_FIELDS), _JSON, max_size=6), max_size=6)
)
def test_whatever_is_sent_the_backend_does_not_fail(shared: Running, events: list[Any]) -> None:
    run = str(uuid.uuid4())
    peer = shared.peer("fuzz")
    kinds = ("task", "log", "run.started", "run.ended")
    shaped = [
        {"seq": i + 1, "run": run, "type": kinds[i % 4], "index": 0, "state": "FAILED", "text": "x"}
        | event
        for i, event in enumerate(events)
    ]
    for batch in (events, shaped):
        answer = peer.post("/api/ingest", json.dumps({"events": batch}).encode())
        assert answer.status in (200, 400), answer.body
    for event in events:
        for path in ("/api/flows", f"/api/runs/{run}/tasks/0/state", f"/api/runs/{run}/complete"):
            assert peer.post(path, json.dumps(event).encode()).status in (200, 400, 404, 409)
