"""The client against a backend that knows only the documented endpoints, and is strict about them."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from perfect import delivery, documented, heart
from perfect.reporting import shake_hands
from perfect.documented import DocumentedReporter
from perfect.events import Encoder, Event
from perfect.flows import FlowDefinition
from perfect.records import FlowRun, TaskRun
from perfect.redaction import Redactor
from perfect.schedules import CronSchedule, IntervalSchedule
from perfect.sdk import TaskResult, configure, connect, flow, progress, propagate, run, task
from perfect.session import get_session, reset
from perfect.states import TaskState
from perfect.store import StateManager
from tests.standins.documented_backend import DocumentedBackend
from tests.standins.documented_engine import Run


@pytest.fixture
def backend() -> Iterator[DocumentedBackend]:
    with DocumentedBackend() as backend:
        configure(backend_url=backend.url)
        yield backend
        reset()


def delivered() -> None:
    assert get_session().flush(20), "not delivered"


def lines(run: Run) -> list[str]:
    return [line for log in run.logs for line in log.split("\n")]


def tasks(run: Run) -> list[tuple[str, str]]:
    return [(entry.name, entry.state) for entry in run.tasks]


@task(estimated_time=2000)
def extract() -> int:
    """Read the rows."""
    print("extracting")
    return 3


@task
def load(rows: int) -> TaskResult:
    print("loading", rows)
    return TaskResult(True, f"{rows} rows", [{"rows": rows}])


@task
def never() -> None: ...


@task
def bad() -> None:
    raise ValueError("broken")


@flow(name="ETL", description="Daily", tags={"team": "data"})
def etl(skip: bool = True) -> str:
    print("begin")
    load(extract())
    if not skip:
        never()
    print("end")
    return "value"


# Everything is tracked


def test_a_flow_is_tracked(backend: DocumentedBackend) -> None:
    assert etl() == "value"
    delivered()
    (run_,) = backend.runs
    assert (run_.state, run_.flow.name, run_.flow.tags) == ("COMPLETED", "ETL", {"team": "data"})
    assert tasks(run_) == [("extract", "COMPLETED"), ("load", "COMPLETED")]
    assert lines(run_) == [
        "begin",
        "[Task Output] extracting",
        "[Task Output] loading 3",
        "end",
    ]
    by_name = {entry.name: entry for entry in run_.tasks}
    assert by_name["load"].result == {"passed": True, "note": "3 rows", "table": [{"rows": 3}]}
    assert by_name["extract"].estimated == 2000
    assert all(entry.progress == 100 and entry.duration is not None for entry in run_.tasks)
    assert run_.completes == 1
    answered = [request for request in backend.journal if request.status is not None]
    assert {request.status for request in answered if "version" not in request.path} == {200}


def test_the_handshake_finds_a_documented_backend(backend: DocumentedBackend) -> None:
    assert connect(10)
    client = get_session().client
    assert client is not None
    assert isinstance(shake_hands(client), DocumentedReporter)


def test_the_same_flow_again_and_again(backend: DocumentedBackend) -> None:
    """A registered flow is used up by one run."""
    for _ in range(5):
        etl()
    delivered()
    assert [run_.state for run_ in backend.runs] == ["COMPLETED"] * 5
    backend.wait_for(lambda: [entry.name for entry in backend.flows] == ["ETL"])


def test_a_configuration_is_told(backend: DocumentedBackend) -> None:
    run(etl, configuration="release")
    delivered()
    assert backend.runs[0].configuration == "release"


def test_failures(backend: DocumentedBackend) -> None:
    optional = task(name="optional", crucial_pass=False)(bad.func)
    refused = task(name="refused")(lambda: TaskResult(False, "no rows", [{"a": 1}]))

    @flow
    def failing() -> None:
        optional()
        refused()
        never()

    with pytest.raises(Exception, match="no rows"):
        failing()
    delivered()
    (run_,) = backend.runs
    assert run_.state == "FAILED"
    assert tasks(run_)[:2] == [("optional", "FAILED"), ("refused", "FAILED")]
    assert run_.tasks[0].result == {"passed": False, "note": "ValueError: broken", "table": []}
    assert run_.tasks[1].result == {"passed": False, "note": "no rows", "table": [{"a": 1}]}
    assert (run_.tasks[0].crucial, run_.tasks[1].crucial) == (False, True)


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_flow_that_fails_outside_any_task(backend: DocumentedBackend, calls: int) -> None:
    @flow
    def failing() -> None:
        for _ in range(calls):
            extract()
        if calls < 3:
            raise KeyError("outside")
        never()

    with pytest.raises(KeyError):
        failing()
    delivered()
    (run_,) = backend.runs
    assert run_.state == "FAILED"
    called = [entry for entry in run_.tasks if entry.state != "PENDING"]
    assert [entry.state for entry in called] == ["COMPLETED"] * calls + ["FAILED"]
    assert called[-1].result is not None and "outside" in called[-1].result["note"]


def test_a_crucial_failure_that_the_flow_catches(backend: DocumentedBackend) -> None:
    @flow
    def catching() -> None:
        try:
            bad()
        except ValueError:
            extract()

    catching()
    delivered()
    assert backend.runs[0].state == "FAILED"


def test_fewer_and_more_tasks_than_predefined(backend: DocumentedBackend) -> None:
    @flow
    def looping(times: int) -> None:
        if times < 0:
            never()
        for _ in range(times):
            extract()

    looping(0)
    looping(5)
    delivered()
    assert [tasks(run_) for run_ in backend.runs] == [[], [("extract", "COMPLETED")] * 5]
    assert [run_.state for run_ in backend.runs] == ["COMPLETED"] * 2


def test_indices_have_no_gap_under_threads(backend: DocumentedBackend) -> None:
    """A gap breaks a run there."""
    step = task(name="step")(lambda number: print("step", number))

    @flow
    def parallel() -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(propagate(step), range(100)))

    parallel()
    delivered()
    (run_,) = backend.runs
    assert not run_.broken and run_.state == "COMPLETED"
    assert len(run_.tasks) == 100
    assert sorted(lines(run_)) == sorted(f"[Task Output] step {n}" for n in range(100))


def test_parallel_flows(backend: DocumentedBackend) -> None:
    def named(name: str) -> Callable[[], Any]:
        say = task(name=f"say {name}")(lambda: print("I am", name))
        return flow(name=name)(lambda: [say() for _ in range(10)])

    threads = [threading.Thread(target=named(name)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    delivered()
    for name in "abcd":
        (run_,) = backend.runs_of(name)
        assert (run_.state, len(run_.tasks)) == ("COMPLETED", 10)
        assert lines(run_) == [f"[Task Output] I am {name}"] * 10


# What is too large for it


def test_a_table_of_5_mb_is_shrunk(backend: DocumentedBackend) -> None:
    rows = [{"id": number, "text": "x" * 90} for number in range(50_000)]
    big = task(name="big")(lambda: TaskResult(True, "all rows", rows))
    flow(name="large")(lambda: big())()
    delivered()
    (run_,) = backend.runs
    assert run_.state == "COMPLETED"
    result = run_.tasks[0].result
    assert result is not None
    kept = result["table"]
    assert kept == rows[: len(kept)] and len(kept) > 100
    assert f"[table cut: {len(kept)} of 50000 rows]" in result["note"]


@pytest.mark.parametrize("size", [80_000, 89_900, 95_000, 99_900, 100_500, 115_000, 130_000])
def test_a_table_about_as_large_as_the_limit_arrives(backend: DocumentedBackend, size: int) -> None:
    rows = [{"text": "x" * 987}] * (size // 1000)
    edge = task(name="edge")(lambda: TaskResult(True, "", rows))
    flow(name="large")(lambda: edge())()
    delivered()
    assert tasks(backend.runs[0]) == [("edge", "COMPLETED")]
    assert not [request for request in backend.journal if request.status == 413]


@pytest.mark.parametrize("letter", ["x", "é", "😀", "\x00"])
def test_a_long_note_is_cut(backend: DocumentedBackend, letter: str) -> None:
    table = [{"column": letter * 500}] * 200
    noted = task(name="noted")(lambda: TaskResult(True, letter * 50_000, table))
    flow(name="large")(lambda: noted())()
    delivered()
    (run_,) = backend.runs
    assert (run_.state, tasks(run_)) == ("COMPLETED", [("noted", "COMPLETED")])
    assert not [request for request in backend.journal if request.status == 413]


def test_a_long_error_is_cut(backend: DocumentedBackend) -> None:
    def body() -> None:
        raise ValueError("é" * 200_000)

    failing = task(name="failing")(body)
    with pytest.raises(ValueError):
        flow(name="large")(lambda: failing())()
    delivered()
    assert backend.runs[0].state == "FAILED"


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_many_lines_all_arrive_whole(backend: DocumentedBackend, letter: str) -> None:
    written = [letter * 79 + str(number) for number in range(2000)]

    def body() -> None:
        sys.stdout.write("\n".join(written) + "\n")

    talking = task(name="talking")(body)
    flow(name="large")(lambda: talking())()
    delivered()
    (run_,) = backend.runs
    assert run_.state == "COMPLETED"
    assert lines(run_) == ["[Task Output] " + line for line in written]
    assert not [request for request in backend.journal if request.status == 413]
    # …and not one request a line
    assert len(backend.requests("POST", "/logs")) < 200


@pytest.mark.parametrize("letter", ["x", "😀"])
def test_a_line_of_ten_megabytes_is_cut(backend: DocumentedBackend, letter: str) -> None:
    long = task(name="long")(lambda: sys.stdout.write(letter * 10_000_000 + "\n"))
    after = task(name="after")(lambda: print("the line after"))
    flow(name="large")(lambda: (long(), after()))()
    delivered()
    (run_,) = backend.runs
    assert run_.state == "COMPLETED"
    first, last = lines(run_)
    assert first.startswith("[Task Output] " + letter * 100) and "[cut" in first
    assert last == "[Task Output] the line after"


# Progress


def test_the_tasks_own_progress_is_told_at_most_every_100_ms(backend: DocumentedBackend) -> None:
    def body() -> None:
        for percent in range(100):
            progress(percent / 100)

    stepping = task(name="stepping")(body)
    flow(name="progress")(lambda: stepping())()
    delivered()
    told = [
        request.at
        for request in backend.requests("POST", "/tasks/0/state")
        if request.body["state"] == "RUNNING"
    ]
    assert len(told) <= 2
    assert backend.runs[0].state == "COMPLETED"


def test_a_long_task_ticks_and_never_faster_than_every_100_ms(backend: DocumentedBackend) -> None:
    def body() -> None:
        progress(0.5)
        backend.wait_for(lambda: len(backend.requests("POST", "/tasks/0/state")) >= 4)

    waiting = task(name="waiting", estimated_time=60_000)(body)
    flow(name="ticking")(lambda: waiting())()
    delivered()
    ticks = [
        request
        for request in backend.requests("POST", "/tasks/0/state")
        if request.body["state"] == "RUNNING"
    ]
    assert len(ticks) >= 4
    spread = [later.at - earlier.at for earlier, later in itertools.pairwise(ticks[1:])]
    assert min(spread) > documented.TICK * 0.5
    assert {tick.body["progress"] for tick in ticks[1:]} <= {0, 50} and ticks[-1].body[
        "progress"
    ] == 50


def test_progress_is_never_told_from_a_backlog(backend: DocumentedBackend) -> None:
    backend.stop()

    def body() -> None:
        for percent in range(100):
            progress(percent / 100)
            time.sleep(0.001)

    stepping = task(name="stepping")(body)
    flow(name="backlog")(lambda: stepping())()
    backend.start()
    delivered()
    told = [request.body["state"] for request in backend.requests("POST", "/tasks/0/state")]
    assert told == ["COMPLETED"]


def test_estimates_that_the_backend_has_learned_win(backend: DocumentedBackend) -> None:
    backend.learn("learned", "waiting", 100_000, 100_000)

    def body() -> None:
        backend.wait_for(lambda: len(backend.requests("POST", "/tasks/0/state")) >= 4)

    waiting = task(name="waiting", estimated_time=1)(body)
    flow(name="learned")(lambda: waiting())()
    delivered()
    ticks = backend.requests("POST", "/tasks/0/state")[1:-1]
    assert ticks and all(tick.body["progress"] < 50 for tick in ticks)


# Trouble


def test_it_dies_in_the_middle_of_a_printing_task(
    backend: DocumentedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    def body() -> None:
        for number in range(50):
            print("line", number)
            if number == 20:
                backend.wait_for(lambda: bool(backend.requests("POST", "/logs")))
                backend.stop()

    printing = task(name="printing")(body)

    @flow
    def run_() -> str:
        printing()
        return "value"

    began = time.monotonic()
    assert run_() == "value"
    assert time.monotonic() - began < 15  # its own time: no waiting for anybody
    backend.start()
    delivered()
    (tracked,) = backend.runs
    assert tracked.state == "COMPLETED"
    assert lines(tracked)[-1] == "[Task Output] line 49"
    assert len(set(lines(tracked))) == 50


def test_without_a_backend_flows_run_and_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    configure(backend_url="http://127.0.0.1:9", flush_timeout=1)
    assert [etl(), etl()] == ["value", "value"]
    assert not connect(0.3)
    reset()
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    said = [record.getMessage() for record in warnings if "no backend at" in record.getMessage()]
    assert len(said) == 1 and "perfect server" in said[0]


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("path", ["/logs", "/state", "/complete", "/flows$"])
def test_a_connection_that_breaks_off_is_tried_again(
    backend: DocumentedBackend, path: str, applied: bool
) -> None:
    backend.drop_next(2, applied=applied, path=path)
    etl()
    delivered()
    run_ = backend.runs[-1]
    assert run_.state == "COMPLETED"
    assert {line for line in lines(run_)} == {
        *("begin", "end", "[Task Output] extracting", "[Task Output] loading 3")
    }


@pytest.mark.parametrize("status", [500, 503, 429, 401, 403])
def test_a_refusal_that_may_pass_is_tried_again(
    backend: DocumentedBackend, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "REFUSED_WAIT", 0.05)
    backend.fail_next(2, status, path="/state", headers={"Retry-After": "0"})
    etl()
    delivered()
    assert backend.runs[0].state == "COMPLETED"


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_line_that_is_refused_does_not_spoil_the_run(
    backend: DocumentedBackend, status: int
) -> None:
    backend.fail_next(1, status, path="/logs")
    etl()
    delivered()
    assert backend.runs[0].state == "COMPLETED"


def test_a_request_that_never_works_does_not_hold_up_the_rest(backend: DocumentedBackend) -> None:
    backend.fail_next(10_000, 500, path="/logs")
    etl()
    delivered()

    @flow
    def quiet() -> None:
        never()

    quiet()
    delivered()
    assert backend.runs_of("quiet")[0].state == "COMPLETED"


def test_a_flow_that_is_not_taken_runs_all_the_same(backend: DocumentedBackend) -> None:
    backend.fail_next(1000, 400, path="/api/flows")
    assert etl() == "value"
    delivered()
    assert backend.runs == []


def test_a_run_without_an_id_is_asked_for_again(backend: DocumentedBackend) -> None:
    """Somebody else may use the flow up between the two requests."""
    connect(10)
    stolen = threading.Event()

    def steal(request: Any) -> None:
        if request.path == "/api/flows" and not stolen.is_set():
            stolen.set()
            backend.trigger("stolen")

    backend.on_request = steal
    flow(name="stolen")(lambda: extract())()
    delivered()
    backend.on_request = None
    assert stolen.is_set()
    assert "COMPLETED" in [run_.state for run_ in backend.runs_of("stolen")]


# Runs asked for by the backend


def test_a_triggered_run_is_tracked_like_any_other(backend: DocumentedBackend) -> None:
    etl()
    for number in range(3):
        backend.wait_for(lambda: any(entry.name == "ETL" for entry in backend.flows))
        run_id = backend.trigger("ETL", "release")
        backend.wait_for(lambda: not backend.run(run_id).active)
        run_ = backend.run(run_id)
        assert (run_.state, run_.configuration) == ("COMPLETED", "release")
        assert sorted(tasks(run_)) == [("extract", "COMPLETED"), ("load", "COMPLETED")]
        assert "[Task Output] extracting" in lines(run_)
        assert len(backend.runs) == number + 2  # and no second run beside it


def test_a_triggered_run_that_fails(backend: DocumentedBackend) -> None:
    times = itertools.count()

    @flow
    def later() -> None:
        if next(times):
            raise KeyError("the second time")

    later()
    backend.wait_for(lambda: any(entry.name == "later" for entry in backend.flows))
    run_id = backend.trigger("later")
    backend.wait_for(lambda: not backend.run(run_id).active)
    assert backend.run(run_id).state == "FAILED"


def test_polls_that_are_answered_at_once_are_not_asked_without_end() -> None:
    with DocumentedBackend(poll_timeout=0) as backend:
        configure(backend_url=backend.url)
        etl()
        delivered()
        backend.wait_for(lambda: bool(backend.requests("GET", "execution-requests")))
        began = len(backend.requests("GET", "execution-requests"))
        time.sleep(0.5)
        assert len(backend.requests("GET", "execution-requests")) - began < 20
        reset()


# Signs of life


def test_the_heart_beats_while_a_run_is_active_and_not_after(
    backend: DocumentedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heart, "HEARTBEAT", 0.02)
    silent = task(name="silent")(
        lambda: backend.wait_for(lambda: len(backend.requests("POST", "/api/heartbeat")) >= 3)
    )
    flow(name="alive")(lambda: silent())()
    delivered()
    assert backend.runs[0].state == "COMPLETED"
    reset()
    beats = len(backend.requests("POST", "/api/heartbeat"))
    time.sleep(0.1)
    assert len(backend.requests("POST", "/api/heartbeat")) == beats


def test_two_runs_in_a_row_both_have_a_heart(
    backend: DocumentedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heart, "HEARTBEAT", 0.02)
    for number in range(2):
        beats = len(backend.requests("POST", "/api/heartbeat"))
        silent = task(name="silent")(
            lambda: backend.wait_for(
                lambda: len(backend.requests("POST", "/api/heartbeat")) >= beats + 2
            )
        )
        flow(name="alive")(lambda: silent())()
    delivered()


# The end of the process


def script(backend: DocumentedBackend, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PERFECT_BACKEND_URL": backend.url, "PYTHONPATH": os.getcwd()},
    )


def test_everything_is_delivered_when_a_script_ends(backend: DocumentedBackend) -> None:
    done = script(
        backend,
        """
        from perfect import flow, task
        @task
        def step(n):
            print("step", n)
        @flow
        def short():
            for n in range(20):
                step(n)
        short()
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (run_,) = backend.runs
    assert (run_.state, len(run_.tasks)) == ("COMPLETED", 20)
    assert lines(run_) == [f"[Task Output] step {n}" for n in range(20)]


def test_a_run_in_a_daemon_thread_is_ended_when_the_process_ends(
    backend: DocumentedBackend,
) -> None:
    done = script(
        backend,
        """
        import threading, time
        from perfect import flow, task
        running = threading.Event()
        @task
        def step():
            running.set()
            time.sleep(60)
        @flow
        def endless():
            step()
        threading.Thread(target=endless, daemon=True).start()
        running.wait(20)
        """,
    )
    assert done.returncode == 0, done.stderr
    (run_,) = backend.runs
    assert run_.state == "FAILED"  # it knows no CANCELLED
    assert "no heartbeat" not in run_.reason


def test_a_script_whose_flow_raises(backend: DocumentedBackend) -> None:
    done = script(
        backend,
        """
        from perfect import flow
        @flow
        def broken():
            raise KeyError("outside")
        broken()
        """,
    )
    assert done.returncode == 1 and "KeyError: 'outside'" in done.stderr
    assert [run_.state for run_ in backend.runs] == ["FAILED"]


# The reporter itself, with records as threads may leave them


class Scripted:
    """A client that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def request(self, method: str, path: str, body: Any = None, **_: Any) -> Any:
        self.asked.append((path, body))
        return {"success": True, "flow": {"id": "f", "tasks": []}, "runId": "r"}


def encoded(encoder: Encoder, *records: Any) -> list[Event]:
    return [event for event in map(encoder.encode, records) if event is not None]


def test_records_that_arrive_out_of_order_leave_no_gap() -> None:
    client = Scripted()
    reporter = DocumentedReporter(client)  # type: ignore[arg-type]
    encoder = Encoder(Redactor())
    run_ = FlowRun({"name": "f", "tags": {}, "tasks": []}, lambda record: None)
    entries = [TaskRun(run_, index, extract, lambda *_: None, run_.started) for index in range(4)]
    reporter.send(encoded(encoder, run_, entries[2], entries[1]))
    for entry in entries[1:3]:
        entry.ended, entry.state = run_.started, TaskState.COMPLETED
    # 3 begins, never ends
    reporter.send(encoded(encoder, entries[1], entries[0], entries[2], entries[3]))
    run_.task_count, run_.state = 4, TaskState.COMPLETED
    reporter.send(encoded(encoder, run_))
    seen = -1
    for path, _ in client.asked:
        if "/tasks/" in path:
            index = int(path.split("/tasks/")[1].split("/")[0])
            assert index <= seen + 1
            seen = max(seen, index)
    assert client.asked[-1] == ("/api/runs/r/complete", {"taskCount": 4})


def test_an_index_that_never_came_does_not_break_the_run() -> None:
    """A thread may die between taking its index and reporting it."""
    client = Scripted()
    reporter = DocumentedReporter(client)  # type: ignore[arg-type]
    encoder = Encoder(Redactor())
    run_ = FlowRun({"name": "f", "tags": {}, "tasks": []}, lambda record: None)
    late = TaskRun(run_, 1, extract, lambda *_: None, run_.started)
    late.ended, late.state = run_.started, TaskState.COMPLETED
    run_.task_count, run_.state, run_.error = 2, TaskState.FAILED, {"type": "E", "message": "m"}
    reporter.send(encoded(encoder, run_, late, run_))
    seen = -1
    for path, _ in client.asked:
        if "/tasks/" in path:
            index = int(path.split("/tasks/")[1].split("/")[0])
            assert index <= seen + 1, client.asked
            seen = max(seen, index)


def test_an_index_within_the_registration_is_told_at_once() -> None:
    """The tasks of a graph have their indices before they begin, and begin in another order."""
    client = Scripted()
    reporter = DocumentedReporter(client)  # type: ignore[arg-type]
    encoder = Encoder(Redactor())
    body = {"name": "f", "tags": {}, "tasks": [{"name": name} for name in "abc"]}
    run_ = FlowRun(body, lambda record: None)
    entries = [TaskRun(run_, index, extract, lambda *_: None, run_.started) for index in range(6)]
    reporter.send(encoded(encoder, run_, entries[2]))
    assert client.asked[-1][0] == "/api/runs/r/tasks/2/state"
    # 3 is the first that the backend does not have, 5 would leave a gap before it
    reporter.send(encoded(encoder, entries[5], entries[3]))
    assert [path.split("/")[5] for path, _ in client.asked if "/tasks/" in path] == ["2", "3"]
    told = json.loads(json.dumps(reporter.notes()))
    reporter = DocumentedReporter(client)  # type: ignore[arg-type]
    reporter.recall(told)  # another process goes on with the run
    for entry in (entries[2], entries[3]):
        entry.ended, entry.state = run_.started, TaskState.COMPLETED
    reporter.send(encoded(encoder, entries[4], entries[0], entries[2], entries[3]))
    for entry in (entries[4], entries[0]):
        entry.ended, entry.state = run_.started, TaskState.COMPLETED
    run_.task_count, run_.state = 5, TaskState.COMPLETED
    reporter.send(encoded(encoder, entries[4], entries[0], run_))
    ends = {
        int(path.split("/")[5]): body
        for path, body in client.asked
        if "/tasks/" in path and body["state"] in ("COMPLETED", "FAILED")
    }
    assert {index: body["state"] for index, body in ends.items()} == {
        0: "COMPLETED",
        # Nobody told of it: were it left PENDING, the run would never end.
        1: "FAILED",
        2: "COMPLETED",
        3: "COMPLETED",
        4: "COMPLETED",
    }
    assert not ends[1]["crucialPass"]
    assert client.asked[-1] == ("/api/runs/r/complete", {"taskCount": 5})


# Attempts, graphs, and the states that it does not have


def states_told(backend: DocumentedBackend, index: int) -> list[str]:
    """The states that were told of a task, each once where it was told again."""
    path = f"/tasks/{index}/state"
    told = [request.body["state"] for request in backend.journal if request.path.endswith(path)]
    return [state for state, _ in itertools.groupby(told)]


def test_a_task_that_is_tried_again(backend: DocumentedBackend) -> None:
    errors = [ValueError("first"), ValueError("second")]

    @task(retries=2, delay=0.05, jitter=0)
    def flaky() -> str:
        # So that each state is told by itself.
        assert get_session().flush(20)
        if errors:
            raise errors.pop(0)
        return "done"

    @flow
    def retrying() -> str:
        return flaky()

    assert retrying() == "done"
    delivered()
    (run_,) = backend.runs
    assert (run_.state, tasks(run_)) == ("COMPLETED", [("flaky", "COMPLETED")])
    told = states_told(backend, 0)
    assert told[0] == "RUNNING" and told[-1] == "COMPLETED"
    assert set(told) <= {"RUNNING", "RETRYING", "COMPLETED"}
    assert [line.split(" failed")[0] for line in lines(run_)] == [
        "[Task Output] perfect: task 'flaky': attempt 1 of 3",
        "[Task Output] perfect: task 'flaky': attempt 2 of 3",
    ]


def test_a_task_that_waits_for_its_next_attempt_is_retrying() -> None:
    client = Scripted()
    reporter = DocumentedReporter(client)  # type: ignore[arg-type]
    encoder = Encoder(Redactor())
    run_ = FlowRun({"name": "f", "tags": {}, "tasks": []}, lambda record: None)
    entry = TaskRun(run_, 0, extract, lambda *_: None, run_.started)
    reporter.send(encoded(encoder, run_, entry))
    entry.retrying(ValueError("first"), "again")
    reporter.send(encoded(encoder, entry))
    reporter.tick()  # it is not at work: there is no progress to tell
    entry.resumed()
    reporter.send(encoded(encoder, entry))
    reporter.tick()
    entry.ended, entry.state = time.time(), TaskState.COMPLETED
    reporter.send(encoded(encoder, entry))
    told = [body for path, body in client.asked if "/tasks/0/" in path]
    assert [body["state"] for body in told] == [
        *("RUNNING", "RETRYING", "RUNNING", "RUNNING", "COMPLETED")
    ]
    assert told[1]["progress"] == 0 and told[1]["taskName"] == "extract"
    assert "result" not in told[-1]


def test_states_that_it_does_not_have(backend: DocumentedBackend) -> None:
    @task(when=lambda value: value > 10)
    def unwanted(value: int) -> None: ...

    @task(cache=StateManager())
    def reused(value: int) -> int:
        return value

    @task
    def interrupted() -> None:
        raise KeyboardInterrupt

    @flow
    def odd() -> None:
        unwanted(1)
        reused(1)
        reused(1)
        interrupted()

    with pytest.raises(KeyboardInterrupt):
        odd()
    delivered()
    (run_,) = backend.runs
    assert run_.state == "FAILED"
    assert tasks(run_) == [
        ("unwanted", "COMPLETED"),
        ("reused", "COMPLETED"),
        ("reused", "COMPLETED"),
        ("interrupted", "FAILED"),
    ]
    notes = [
        entry.result and (entry.result["passed"], entry.result["note"]) for entry in run_.tasks
    ]
    assert notes == [
        (True, "skipped: not wanted: `when` says no"),
        None,
        (True, "result of an earlier run"),
        (False, "cancelled: KeyboardInterrupt"),
    ]


def test_elements_and_submitted_tasks(backend: DocumentedBackend) -> None:
    @task
    def element(value: int) -> int:
        return value

    @flow
    def wide() -> int:
        return sum(element.map(range(40))) + element.submit(2).result()

    assert wide() == 782
    delivered()
    (run_,) = backend.runs
    assert (run_.state, run_.broken) == ("COMPLETED", False)
    assert tasks(run_) == [("element", "COMPLETED")] * 41


def graph_run(backend: DocumentedBackend, build: Callable[[Any], object], **options: Any) -> Run:
    from perfect.core import Flow, ThreadExecutor

    made = Flow("graph")
    with made:
        build(made)
    made.run(executor=ThreadExecutor(4), **options)
    delivered()
    (run_,) = backend.runs
    return run_


def test_a_graph_whose_tasks_begin_in_another_order(backend: DocumentedBackend) -> None:
    def build(made: Any) -> None:
        last = made.add_task(
            extract.copy(name="last")
        )  # the lowest index, and nothing runs after it
        for number in range(30):
            made.add_edge(made.add_task(extract.copy(name=f"number {number}")), last)

    run_ = graph_run(backend, build)
    assert (run_.state, run_.broken) == ("COMPLETED", False)
    assert tasks(run_) == [
        ("last", "COMPLETED"),
        *((f"number {number}", "COMPLETED") for number in range(30)),
    ]
    paths = [request.path for request in backend.journal if request.path.endswith("/state")]
    assert not paths[0].endswith("/tasks/0/state")  # told as they began, not when `last` had


def test_a_graph_that_fails(backend: DocumentedBackend) -> None:
    def build(made: Any) -> None:
        made.chain(
            *(made.add_task(one) for one in (extract.copy(name="first"), bad, never.copy(name="x")))
        )
        made.add_edge(made.add_task(extract.copy(name="beside")), bad)

    run_ = graph_run(backend, build)
    assert (run_.state, run_.broken) == ("FAILED", False)
    told = dict(tasks(run_))
    assert (told["first"], told["beside"], told["bad"]) == ("COMPLETED", "COMPLETED", "FAILED")
    assert told["x"] != "COMPLETED"  # it may come too late: the run has failed by then
    (failed,) = [entry for entry in run_.tasks if entry.name == "bad"]
    assert failed.result is not None and failed.result["note"] == "ValueError: broken"


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (None, None),
        (CronSchedule("0 6 * * *"), "0 6 * * *"),
        (CronSchedule("0 6 * * *", catchup="all", overlap="skip"), "0 6 * * *"),
        # such a backend would run these at other times
        (CronSchedule("0 6 * * *", timezone="Europe/Berlin"), None),
        (IntervalSchedule(90), None),
        (IntervalSchedule(90, overlap="skip"), None),
        (IntervalSchedule("*/5 * * * *", catchup="latest"), "*/5 * * * *"),
        # and these with other values
        (CronSchedule("0 6 * * *", configuration="release"), None),
        (CronSchedule("0 6 * * *", parameters={"n": 1}), None),
    ],
)
def test_such_a_backend_is_told_of_schedules_that_it_understands(
    schedule: CronSchedule | None, told: str | None
) -> None:
    flow = FlowDefinition("nightly", len, schedule=schedule).to_dict()
    assert documented._registration(flow)["schedule"] == told
