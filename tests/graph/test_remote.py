"""What is sent to another process and what comes home, without any process."""

from __future__ import annotations

import functools
import logging
import math
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from perfect import capture
from perfect.context import current
from perfect.core import Task, task
from perfect.errors import NotSendable, RemoteError, TaskTimeout, WorkerLost
from perfect.failures import describe
from perfect.graph import away, remote
from perfect.graph.away import BURST, RemoteScope
from perfect.graph.executors.base import Work
from perfect.graph.remote import Outcome, Said
from perfect.records import LogLine, TaskRun
from perfect.redaction import MASK, Secret
from perfect.sdk import flow
from perfect.testing import mock
from tests.graph import graph_steps as steps

WORKER = "process 1"


def work_of(one: Task[..., Any], *args: Any, **kwargs: Any) -> Work:
    return Work(one, one.body, args, kwargs)


def done(work: Work, send: away.Send | None = None, **changes: Any) -> Outcome:
    """What comes of an attempt that goes there and back as bytes."""
    errand = pickle.loads(remote.packed(remote.errand_of(work)._replace(**changes)))
    outcome = away.carry_out(errand, send, WORKER)
    made = pickle.loads(away.packed_outcome(errand, outcome))
    assert isinstance(made, Outcome)
    return made


# --- errands ----------------------------------------------------------------------------------


class Holder:
    def method(self, x: int) -> int:
        return x + 1


@pytest.mark.parametrize(
    ("one", "args", "expected"),
    [
        (steps.inc, (1,), 2),
        (steps.inc.copy(name="another", retries=3, when=lambda x: True), (1,), 2),
        (steps.named_otherwise, (2,), 6),
        (task(name="sqrt")(math.sqrt), (4.0,), 2.0),
        (task(name="partial")(functools.partial(steps.times_three, 5)), (), 15),
        (task(name="method")(Holder().method), (5,), 6),
        (steps.Plus(3, when=lambda x: True, retry_on=lambda error: True), (4,), 7),
        (steps.Plus(3).copy(name="copied"), (4,), 7),
        (steps.waits, (1,), 11),
        (steps.counts, (3,), [0, 1, 2]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_tasks_that_another_process_finds(
    one: Task[..., Any], args: tuple[Any, ...], expected: object
) -> None:
    outcome = done(work_of(one, *args))
    assert outcome.error is None, outcome.told
    assert outcome.result == expected and outcome.worker == WORKER
    assert outcome.began <= outcome.ended


def test_a_function_goes_by_its_name_and_nothing_else_of_its_task() -> None:
    one = steps.inc.copy(when=lambda x: True)
    errand = remote.errand_of(work_of(one, 1))
    assert errand.task is None
    assert (errand.module, errand.qualname) == ("tests.graph.graph_steps", "inc")
    assert len(remote.packed(errand)) < 200


def test_a_wired_object_does_not_take_its_neighbours_along() -> None:
    one: Any = steps.Plus(1)
    before: Any = steps.Plus(2)
    before.weighty = bytes(100_000)
    before >> one
    assert len(remote.packed(remote.errand_of(work_of(one, 1)))) < 2000
    assert done(work_of(one, 1)).result == 2


def test_what_has_the_name_of_another_one_is_refused() -> None:
    @task
    def inc(x: int) -> int:
        return x + 2

    inc.__qualname__, inc.__module__ = "inc", steps.__name__  # type: ignore[attr-defined]
    with pytest.raises(NotSendable, match="task 'inc' can't be sent"):
        remote.errand_of(work_of(inc, 1))


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((threading.Lock(),), {}, "'values'"),
        ((), {"lock": threading.Lock()}, "'lock'"),
        ((1, 2, 3, threading.Lock()), {}, "number 4"),
    ],
)
def test_which_argument_can_not_be_sent(
    args: tuple[Any, ...], kwargs: dict[str, Any], named: str
) -> None:
    errand = remote.errand_of(work_of(steps.variadic, *args, **kwargs))
    said = (
        f"task 'variadic' can't be sent to another process: its argument {named} (a _thread.lock)"
    )
    with pytest.raises(NotSendable) as caught:
        remote.packed(errand)
    assert said in str(caught.value)


def test_options_of_a_copy_hold_there() -> None:
    one = steps.waits_for_ever.copy(timeout=0.05, name="impatient")
    outcome = done(work_of(one))
    assert type(outcome.error) is TaskTimeout and outcome.error.task == "impatient"
    # Who holds the time himself says so in the errand.
    assert done(work_of(steps.inc.copy(timeout=1e-9), 1), timeout=None).result == 2


def test_a_task_that_is_not_there() -> None:
    errand = remote.errand_of(work_of(steps.inc, 1))._replace(qualname="gone")
    outcome = away.carry_out(errand, None, WORKER)
    assert type(outcome.error) is NotSendable
    assert "not found in another process as tests.graph.graph_steps.gone" in str(outcome.error)


# --- errors -----------------------------------------------------------------------------------


def test_an_error_comes_home_with_its_traceback() -> None:
    work = work_of(steps.boom, 3)
    remote.take_home(work, done(work))
    error = work.error
    assert type(error) is KeyError and error.args == ("no such thing as 3",)
    told = describe(error)
    assert told["type"] == "KeyError" and "in boom\n" in told["traceback"]
    assert told["traceback"].count("  File ") == 1
    (note,) = error.__notes__
    assert note.startswith(f"in {WORKER}:\nTraceback") and "in boom\n" in note
    # It may go on to yet another process, and is told as what it was.
    assert describe(pickle.loads(pickle.dumps(error))) == told


@pytest.mark.parametrize(
    ("one", "kind"), [(steps.raises_exploding, "ExplodesError"), (steps.raises_lock, "HoldsLock")]
)
def test_an_error_that_can_not_travel(one: Task[..., Any], kind: str) -> None:
    work = work_of(one)
    remote.take_home(work, done(work))
    assert type(work.error) is RemoteError and work.error.task == one.name
    assert str(work.error).startswith(f"{kind}: ")
    assert describe(work.error)["type"] == kind


def test_an_error_that_another_pickler_takes() -> None:
    """Dask's clusters pickle by value what can't be found by name."""
    asked = []

    def dumps(error: BaseException) -> bytes:
        asked.append(error)
        return pickle.dumps(error)

    errand = remote.errand_of(work_of(steps.boom, 3))
    outcome = away.carry_out(errand, None, WORKER, dumps=dumps)
    assert asked == [outcome.error]


def test_a_secret_made_there_stays_there() -> None:
    heard: list[Said] = []
    work = work_of(steps.tells_secret, "open-sesame-4711")
    outcome = done(work, heard.extend)
    heard += outcome.said
    assert [one.text for one in heard] == [f"the word is {MASK}"]
    assert outcome.told is not None and "4711" not in str(outcome.told)
    assert Secret("open-sesame-4711").get() == "open-sesame-4711"


# --- lines ------------------------------------------------------------------------------------


@pytest.fixture
def captured() -> Iterator[None]:
    capture.begin()
    yield
    capture.end()


def test_a_line_leaves_at_once_and_very_many_travel_together() -> None:
    sent: list[list[Said]] = []
    scope = RemoteScope(sent.append)
    for number in range(BURST):
        scope.emit("stdout", "INFO", str(number))
        assert len(sent) == number + 1
    enough = threading.Event()

    def send(said: list[Said]) -> None:
        sent.append(said)
        enough.set()

    scope._send = send
    for number in range(BURST, 1000):
        scope.emit("stdout", "INFO", str(number))
    assert enough.wait(10)
    rest = scope.take()
    assert [one.text for said in [*sent, rest] for one in said] == [str(n) for n in range(1000)]
    assert len(sent) < 3 * BURST


def test_after_the_task_nothing_is_sent() -> None:
    sent: list[list[Said]] = []
    scope = RemoteScope(sent.append)
    for number in range(BURST + 1):
        scope.emit("stdout", "INFO", str(number))
    assert [one.text for one in scope.take()] == [str(BURST)]
    scope.emit("stdout", "INFO", "too late")
    scope.flush()
    assert scope.take() == [] and len(sent) == BURST


def test_lines_of_several_threads_lose_nothing() -> None:
    sent: list[Said] = []
    scope = RemoteScope(sent.extend)

    def write(who: int) -> None:
        for number in range(2000):
            scope.emit("stdout", "INFO", f"{who} {number}")

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent += scope.take()
    for who in range(4):
        own = [one.text for one in sent if one.text.startswith(f"{who} ")]
        assert own == [f"{who} {number}" for number in range(2000)]


def test_what_is_said_while_something_is_sent_is_sent_after_it() -> None:
    """A signal handler, or an object that is let go, may print in the middle of it."""
    sent: list[str] = []

    def send(said: list[Said]) -> None:
        if not sent:
            scope.emit("stdout", "INFO", "in the middle")
        sent.extend(one.text for one in said)

    scope = RemoteScope(send)
    scope.emit("stdout", "INFO", "first")
    scope.emit("stdout", "INFO", "last")
    assert sent == ["first", "in the middle", "last"]


def test_a_million_reports_of_progress_are_few_messages(captured: None) -> None:
    sent: list[list[Said]] = []
    scope = RemoteScope(sent.append)
    for number in range(10_000):
        scope.report_progress(number / 10_000)
    last = scope.take()
    assert sum(map(len, sent)) + len(last) < 10 * BURST
    assert (last or sent[-1])[-1].text == "0.9999"


@pytest.fixture
def entry(captured: None) -> Iterator[tuple[Work, list[Any]]]:
    """A call that a run is told of, and every record of the run."""
    work = work_of(steps.inc, 1)

    @flow
    def tells() -> None:
        scope: Any = current.get()
        work.tracker = scope.caller

    with mock() as recorder:
        tells()
        yield work, recorder._session.recorded or []


def test_what_is_heard_is_the_task_runs(entry: tuple[Work, list[Any]]) -> None:
    work, records = entry
    remote.begun(work)
    assert work.entry is not None and work.entry.state == "RUNNING"
    remote.hear(
        work,
        [
            Said("stdout", "INFO", "a line", 12.5),
            Said("progress", "", "0.5", 13.0),
            Said("logging", "WARNING", "steps: careful", 13.5),
        ],
    )
    lines = [one for one in records if isinstance(one, LogLine)]
    index = work.entry.index
    assert lines == [
        LogLine(work.entry.run.id, index, "stdout", "INFO", "a line", 12.5),
        LogLine(work.entry.run.id, index, "logging", "WARNING", "steps: careful", 13.5),
    ]
    assert work.entry.progress == 0.5


def test_without_a_task_run_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    work = work_of(steps.inc, 1)
    said = [
        Said("stdout", "INFO", "out", 0.0),
        Said("stderr", "INFO", "err", 0.0),
        Said("logging", "WARNING", "logged", 0.0),
        Said("progress", "", "0.5", 0.0),
    ]
    remote.hear(work, said)
    assert capsys.readouterr() == ("out\n", "err\n")


# --- lost workers -----------------------------------------------------------------------------


def test_a_lost_worker_is_a_further_attempt(entry: tuple[Work, list[Any]]) -> None:
    work, records = entry
    remote.begun(work)
    told: TaskRun | None = work.entry
    assert told is not None
    for attempt in (1, 2):
        assert remote.lost(work, f"worker {attempt}")
        assert work.error is None and told.state == "RETRYING"
        assert f"worker {attempt} was lost" in (told.reason or "")
        remote.begun(work)
        assert (told.state, told.attempt, told.error) == ("RUNNING", attempt + 1, None)
    assert not remote.lost(work, "worker 3")
    assert type(work.error) is WorkerLost and work.error.worker == "worker 3"
    assert [(one["attempt"], one["worker"]) for one in told.attempts or ()] == [
        (1, "worker 1"),
        (2, "worker 2"),
    ]
    lines = [one for one in records if isinstance(one, LogLine)]
    assert [(one.task_index, one.level) for one in lines] == [(told.index, "WARNING")] * 2


def test_a_lost_worker_without_a_run(caplog: pytest.LogCaptureFixture) -> None:
    work = work_of(steps.inc, 1)
    with caplog.at_level(logging.WARNING):
        assert remote.lost(work, "worker 1") and remote.lost(work, "worker 2")
    assert [record.getMessage() for record in caplog.records] == [
        f"task 'inc': worker {n} was lost; the task is computed again elsewhere" for n in (1, 2)
    ]
    assert not remote.lost(work, "worker 3") and type(work.error) is WorkerLost
