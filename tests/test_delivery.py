"""The sender in front of a backend that speaks the native protocol, over a transport of the test's."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from perfect import delivery, heart as heart_module, session as sessions
from perfect.api import PerfectAPIClient
from perfect.transport import Response
from perfect.delivery import Sender
from perfect.heart import Heart
from perfect.errors import BackendUnreachable
from perfect.events import Encoder
from perfect.records import FlowRun, LogLine
from perfect.sdk import TaskResult, configure, flow, progress, run, task
from perfect.session import Session, get_session, reset
from perfect.settings import resolve
from perfect.spool import spools
from perfect.text import LONGEST_LINE, cut_line

Answer = Callable[[list[dict[str, Any]]], Any]


class Native:
    """Takes what is ingested; `answer` may refuse it or raise."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.paths: list[str] = []
        self.answer: Answer = lambda events: {"success": True, "committed": events[-1]["seq"]}
        self.changed = threading.Condition()
        self.sessions: list[str] = []  # of each batch
        self.asked = 0  # batches that came, whatever was answered

    def send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> Response:
        answer: Any = {"success": True}
        status = 200
        if path == "/api/version":
            answer = {"name": "perfect", "version": "1", "protocol": 2}
        elif path == "/api/ingest":
            assert body is not None
            if headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            events = json.loads(body)["events"]
            with self.changed:
                self.asked += 1
                self.changed.notify_all()
            said = self.answer(events)
            status, answer = said if isinstance(said, tuple) else (200, said)
            if status == 200:
                self.batches.append(events)
                self.sessions.append(headers["X-Perfect-Session"])
        elif path.startswith("/api/execution-requests"):
            time.sleep(0.05)
            answer = None
        with self.changed:
            self.paths.append(path)
            self.changed.notify_all()
        return Response(status, {"retry-after": "0"}, json.dumps(answer).encode())

    def close(self) -> None: ...

    def wait_for(self, test: Callable[[], Any]) -> None:
        with self.changed:
            assert self.changed.wait_for(test, 10), self.paths[-5:]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for batch in self.batches for event in batch]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> Iterator[Native]:
    """The session's clients speak to it."""
    native = Native()

    def new_client(self: Session, session_id: str, *carried: Any) -> PerfectAPIClient:
        return PerfectAPIClient(session_id=session_id, transport=native)

    monkeypatch.setattr(Session, "_new_client", new_client)
    yield native
    reset()


def sender_of(
    native: Native, outbox: SimpleQueue[Any], session: str = "session", **settings: Any
) -> Sender:
    """A sender by itself, for one session."""

    def new_client(session_id: str) -> PerfectAPIClient:
        return PerfectAPIClient(session_id=session_id, transport=native)

    return Sender(resolve(settings), session, outbox, new_client)


def line(text: str) -> LogLine:
    return LogLine("run", None, "stdout", "INFO", text, 0.0)


def delivered() -> None:
    assert get_session().flush(10)


@task(weight=3, estimated_time=2000)
def step(value: int = 1) -> TaskResult:
    print("step", value)
    return TaskResult(True, "note", [{"value": value}])


@flow(tags={"a": "b"})
def etl(times: int = 1) -> None:
    for value in range(times):
        step(value)


def test_a_run_travels_as_events(native: Native) -> None:
    run(etl, configuration="release", parameters={"times": 2})
    delivered()
    (started,), (ended,) = native.of("run.started"), native.of("run.ended")
    assert started["flow"]["name"] == "etl" and started["flow"]["tags"] == {"a": "b"}
    assert (started["configuration"], started["parameters"], started["trigger"]) == (
        *("release", {"times": 2}, "call"),
    )
    assert (ended["state"], ended["task_count"], ended["error"]) == ("COMPLETED", 2, None)
    last = {event["index"]: event for event in native.of("task")}
    for index, event in last.items():
        assert (event["name"], event["state"], event["weight"], event["estimate"]) == (
            *("step", "COMPLETED"),
            *(3, 2000),
        )
        assert event["result"] == {"passed": True, "note": "note", "table": [{"value": index}]}
        assert started["t"] <= event["started"] <= event["ended"] <= ended["t"]
    assert [(event["text"], event["index"]) for event in native.of("log")] == [
        *[("step 0", 0), ("step 1", 1)]
    ]
    assert {event["run"] for event in native.events} == {started["run"]}


def test_sequence_numbers_rise_and_nothing_is_sent_twice(native: Native) -> None:
    for _ in range(5):
        etl(20)
    delivered()
    numbers = [event["seq"] for event in native.events]
    assert numbers == sorted(set(numbers))
    finals = [(e["run"], e["index"]) for e in native.of("task") if e["state"] == "COMPLETED"]
    assert len(finals) == len(set(finals)) == 100
    assert len(native.of("run.started")) == len(native.of("run.ended")) == 5


def test_what_gathers_travels_together_and_merged(native: Native) -> None:
    go = threading.Event()

    def slow(events: list[dict[str, Any]]) -> Any:
        go.wait(10)
        return {"success": True}

    native.answer = slow
    etl(50)
    go.set()
    delivered()
    assert len(native.batches) <= 3
    # Begun and ended while a request was under way: once.
    assert len(native.of("task")) <= 51


def test_a_batch_that_got_no_answer_keeps_its_numbers(native: Native) -> None:
    seen: list[list[int]] = []

    def flaky(events: list[dict[str, Any]]) -> Any:
        seen.append([event["seq"] for event in events])
        if len(seen) < 3:
            raise BackendUnreachable("no answer")
        return {"success": True}

    native.answer = flaky
    etl()
    delivered()
    # What has gathered meanwhile comes after it.
    assert seen[1][: len(seen[0])] == seen[0] and seen[2][: len(seen[1])] == seen[1]


@pytest.mark.parametrize(
    "odd",
    [None, [], "text", {"rejected": 3}, {"rejected": ["x"]}, {"rejected": [{}]}, {"cancel": 3}],
)
def test_an_odd_answer_does_not_end_the_sender(native: Native, odd: Any) -> None:
    native.answer = lambda events: odd
    etl()
    delivered()
    native.answer = lambda events: {"success": True}
    etl()
    delivered()
    assert len(native.of("run.ended")) >= 1
    assert get_session()._sender is not None and get_session()._sender.thread.is_alive()


def test_an_error_of_ours_costs_one_record_and_not_the_thread(
    native: Native, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = Encoder.encode

    def failing(self: Encoder, record: Any) -> Any:
        if isinstance(record, LogLine) and record.text == "step 1":
            raise RuntimeError("a bug of ours")
        return made(self, record)

    monkeypatch.setattr(Encoder, "encode", failing)
    etl(3)
    delivered()
    assert [event["text"] for event in native.of("log")] == ["step 0", "step 2"]
    assert native.of("run.ended")
    assert "a bug of ours" in caplog.text


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_event_that_is_refused_does_not_block_the_rest(
    native: Native, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    def picky(events: list[dict[str, Any]]) -> Any:
        if any(event.get("text") == "step 1" for event in events):
            return status, {"success": False, "error": "not this one"}
        return {"success": True}

    native.answer = picky
    etl(3)
    delivered()
    assert [event["text"] for event in native.of("log")] == ["step 0", "step 2"]
    assert native.of("run.ended")
    assert "not this one" in caplog.text


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_refusal_that_may_pass_loses_nothing(
    native: Native, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "REFUSED_WAIT", 0.05)
    times = iter(range(100))

    def passing(events: list[dict[str, Any]]) -> Any:
        return {"success": True} if next(times) >= 2 else (status, {"error": "later"})

    native.answer = passing
    etl(3)
    delivered()
    assert [event["text"] for event in native.of("log")] == ["step 0", "step 1", "step 2"]


def test_own_progress_travels(native: Native) -> None:
    seen = threading.Event()

    def told() -> None:
        progress(0.5)
        native.wait_for(lambda: any(event.get("progress") for event in native.of("task")))
        seen.set()

    stepping = task(name="stepping")(told)
    flow(name="f")(lambda: stepping())()
    assert seen.is_set()


def test_what_is_left_at_the_end_is_kept_and_delivered_by_the_next_process() -> None:
    native = Native()

    def away(events: list[dict[str, Any]]) -> Any:
        raise BackendUnreachable("gone")

    native.answer = away
    outbox: SimpleQueue[Any] = SimpleQueue()
    sender = sender_of(native, outbox, "former")
    for number in range(5):
        outbox.put(line(str(number)))
    assert not sender.flush(0.3)
    assert sender.close(0.5) == (5, 0)
    (left,) = spools(resolve({}).home)
    assert (left.session, left.events, left.busy) == ("former", 5, False)

    native.answer = lambda events: {"success": True}
    outbox.put(line("own"))
    sender = sender_of(native, outbox, "next")
    assert sender.close(5) == (0, 0)
    assert sorted(event["text"] for event in native.events) == [*"01234", "own"]
    assert native.sessions == ["next", "former"]
    assert spools(resolve({}).home) == []


def test_an_orphan_whose_delivery_fails_is_tried_again() -> None:
    native = Native()
    outbox: SimpleQueue[Any] = SimpleQueue()
    failures = {"left": 1000}

    def flaky(events: list[dict[str, Any]]) -> Any:
        text = events[0]["text"]
        if failures.get(text, 0):
            failures[text] -= 1
            raise BackendUnreachable("gone")
        return {"success": True}

    native.answer = flaky
    outbox.put(line("left"))
    former = sender_of(native, outbox, "former", flush_timeout=0)
    assert former.close(0) == (1, 0)
    failures["left"] = 2  # whether it was tried at all before, and how often, nobody knows
    sender = sender_of(native, outbox, "next")
    outbox.put(line("own"))
    native.wait_for(lambda: len(native.batches) == 2)
    assert sender.close(5) == (0, 0)
    assert [event["text"] for event in native.events] == ["own", "left"]
    assert spools(resolve({}).home) == []


def test_what_is_closed_while_the_last_answer_comes_does_not_wait() -> None:
    """Whatever the moment at which closing is announced."""
    native = Native()
    began = time.monotonic()
    for number in range(100):
        outbox: SimpleQueue[Any] = SimpleQueue()
        sender = sender_of(native, outbox, f"session {number}")
        outbox.put(line(str(number)))
        native.wait_for(lambda: len(native.batches) > number)  # noqa: B023
        assert sender.close(30) == (0, 0)
    assert time.monotonic() - began < 20


def test_a_hanging_request_does_not_keep_the_rest_from_the_disk() -> None:
    native = Native()
    go = threading.Event()

    def hanging(events: list[dict[str, Any]]) -> Any:
        go.wait(20)
        return {"success": True}

    native.answer = hanging
    outbox: SimpleQueue[Any] = SimpleQueue()
    sender = sender_of(native, outbox)
    outbox.put(line("under way"))
    native.wait_for(lambda: native.asked)
    outbox.put(line("meanwhile"))
    deadline = time.monotonic() + 10
    while not [left for left in spools(resolve({}).home) if left.events == 2]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    go.set()
    assert sender.close(5) == (0, 0)
    assert [event["text"] for event in native.events] == ["under way", "meanwhile"]
    assert spools(resolve({}).home) == []


def test_the_last_batch_is_tried_again_by_itself() -> None:
    """Nothing new comes that could push it along."""
    native = Native()
    times = iter(range(100))

    def flaky(events: list[dict[str, Any]]) -> Any:
        if next(times) < 2:
            raise BackendUnreachable("no answer")
        return {"success": True}

    native.answer = flaky
    outbox: SimpleQueue[Any] = SimpleQueue()
    sender = sender_of(native, outbox)
    outbox.put(line("the last line"))
    native.wait_for(lambda: native.batches)
    assert [event["text"] for event in native.events] == ["the last line"]
    assert sender.close(5) == (0, 0)


def test_closing_tries_what_failed_again() -> None:
    native = Native()
    failed = threading.Event()

    def once(events: list[dict[str, Any]]) -> Any:
        if not failed.is_set():
            failed.set()
            raise BackendUnreachable("no answer")
        return {"success": True}

    native.answer = once
    outbox: SimpleQueue[Any] = SimpleQueue()
    sender = sender_of(native, outbox)
    outbox.put(line("the last line"))
    assert failed.wait(5)
    assert sender.close(5) == (0, 0)
    assert [event["text"] for event in native.events] == ["the last line"]


def test_nothing_is_left_when_everything_was_delivered() -> None:
    native = Native()
    outbox: SimpleQueue[Any] = SimpleQueue()
    sender = sender_of(native, outbox)
    for number in range(5):
        outbox.put(line(str(number)))
    assert sender.close(5) == (0, 0)
    assert len(native.events) == 5
    assert not sender.thread.is_alive()


def test_a_run_that_begins_while_another_ends_has_a_heart() -> None:
    """The end of one looks whether there is another, and that one begins just then."""
    session = Session(resolve({"mock": True}))
    first, second = (FlowRun({"name": name}, session.put) for name in ("first", "second"))

    class Active(dict[str, Any]):
        looked_at = False

        def __len__(self) -> int:
            count = super().__len__()
            if not self.looked_at:
                self.looked_at = True
                session.begin(second)
            return count

    session.begin(first)
    session.active = Active(session.active)
    session.end(first)
    assert session.active.looked_at
    assert session._busy.is_set()
    session.end(second)
    assert not session._busy.is_set()


def test_the_heart_beats_only_while_a_run_is_active(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heart_module, "HEARTBEAT", 0.02)
    native = Native()
    busy = threading.Event()
    outbox: SimpleQueue[Any] = SimpleQueue()
    sender = sender_of(native, outbox)
    assert sender.flush(5)
    heart = Heart(sender, busy)
    busy.set()
    native.wait_for(lambda: native.paths.count("/api/heartbeat") >= 2)
    busy.clear()
    time.sleep(0.05)  # one may be under way
    beats = native.paths.count("/api/heartbeat")
    time.sleep(0.1)
    assert native.paths.count("/api/heartbeat") == beats
    heart.close()
    heart.thread.join(5)
    sender.close(5)
    assert not heart.thread.is_alive()


@pytest.mark.parametrize(
    "text",
    ["short", "x" * 65536, "é" * 32768, "x" * 65537, "é" * 40000, "😀" * 10**6, "\ud800" * 70000],
)
def test_a_line_fits_the_protocols_limit(text: str) -> None:
    cut = cut_line(text)
    data = cut.encode()
    assert len(data) <= LONGEST_LINE
    whole = text.encode("utf-8", "replace")
    if len(whole) <= LONGEST_LINE:
        assert data == whole
    else:
        kept, _, marker = cut.rpartition("… [cut, ")
        assert int(marker.removesuffix(" bytes]")) == pytest.approx(
            len(whole) - len(kept.encode()), abs=4
        )


def test_one_session_for_all_threads() -> None:
    configure(mock=True)
    reset()
    found: list[Session] = []
    start = threading.Barrier(8)

    def get() -> None:
        start.wait(10)
        found.append(get_session())

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert sessions._session is found[0]


def test_warnings_go_to_the_log_of_the_client(caplog: pytest.LogCaptureFixture) -> None:
    native = Native()
    native.answer = lambda events: (401, {"error": "who are you?"})
    outbox: SimpleQueue[Any] = SimpleQueue()
    sender = sender_of(native, outbox)
    outbox.put(line("x"))
    assert not sender.flush(0.3)
    sender.close(0.2)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "PERFECT_API_KEY" in record.getMessage() and "who are you?" in record.getMessage()
