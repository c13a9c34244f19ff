"""The course of a task call: retries, conditions, limits, reuse, and who is told of it."""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perfect import attempts, driving, sdk, testing
from perfect.caching import TaskCache
from perfect.errors import TaskError, TaskFailed, TaskTimeout
from perfect.events import Encoder
from perfect.outcomes import Cancelled, Failed, Pending, Retrying, State, Success
from perfect.records import FlowRun, TaskRun
from perfect.redaction import Redactor
from perfect.sdk import TaskResult, configure, flow, progress, task
from perfect.session import get_session
from perfect.states import TaskState
from perfect.store import StateManager
from perfect.tasks import Task
from perfect.testing import Recorder
from tests.support.backend import BackendProcess


@pytest.fixture
def runs() -> Iterator[Recorder]:
    with testing.mock() as recorder:
        yield recorder


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were taken, in s; none of them lasts."""
    taken: list[float] = []

    async def sleep(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr(driving, "rest", taken.append)
    monkeypatch.setattr(driving, "rest_async", sleep)
    return taken


class Flaky:
    """A function that fails so many times before it succeeds."""

    def __init__(self, *errors: BaseException | type[BaseException]) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.__name__ = "flaky"

    def __call__(self, value: Any = "done") -> Any:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return value


# Both kinds of call, inside a flow and outside of any
WAYS: list[Callable[[Task[..., Any]], Any]] = [
    lambda made: made(),
    lambda made: flow(name="f")(lambda: made())(),
]
everywhere = pytest.mark.parametrize("way", WAYS, ids=["alone", "in a flow"])


# Retries


@everywhere
def test_it_is_tried_again_until_it_succeeds(
    runs: Recorder, pauses: list[float], way: Callable[..., Any]
) -> None:
    flaky = Flaky(ValueError("one"), KeyError("two"))
    assert way(Task(flaky, retries=3, jitter=0)) == "done"
    assert flaky.calls == 3 and pauses == [1.0, 2.0]


@everywhere
def test_the_last_error_is_raised(
    runs: Recorder, pauses: list[float], way: Callable[..., Any]
) -> None:
    flaky = Flaky(ValueError("one"), KeyError("two"), OSError("three"))
    with pytest.raises(KeyError, match="two"):
        way(Task(flaky, retries=1))
    assert flaky.calls == 2 and len(pauses) == 1


def test_the_run_tells_each_attempt(runs: Recorder, pauses: list[float]) -> None:
    flaky = Flaky(ValueError("one"), KeyError("two"))
    made = Task(flaky, max_retries=2, retry_delay=timedelta(minutes=10))

    @flow
    def run() -> Any:
        return made("value")

    before = int(time.time() * 1000)
    assert run() == "value"
    (entry,) = runs.run.tasks  # a retry makes no new task run
    assert (entry.state, entry.attempt, entry.error, entry.reason) == ("COMPLETED", 3, None, None)
    assert [(one["attempt"], one["error"]["type"]) for one in entry.attempts] == [
        (1, "ValueError"),
        (2, "KeyError"),
    ]
    assert all(before <= one["started"] <= one["ended"] for one in entry.attempts)
    assert "line" in entry.attempts[0]["error"]["traceback"]
    assert [line.removeprefix("perfect: ").split(": ")[1] for line in entry.logs] == [
        "attempt 1 of 3 failed, the next follows in 600 s",
        "attempt 2 of 3 failed, the next follows in 600 s",
    ]
    assert pauses == [600.0, 600.0]


def test_a_task_that_gives_up_tells_its_last_error_and_the_earlier_ones(
    runs: Recorder, pauses: list[float]
) -> None:
    made = Task(Flaky(ValueError("one"), KeyError("two")), retries=1)

    @flow
    def run() -> None:
        made()

    with pytest.raises(KeyError):
        run()
    (entry,) = runs.run.tasks
    assert (entry.state, entry.attempt) == ("FAILED", 2)
    assert entry.error is not None and entry.error["type"] == "KeyError"
    assert [one["error"]["message"] for one in entry.attempts] == ["one"]
    assert runs.run.state == "FAILED"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"delay": 3}, [3, 6, 12, 24]),
        ({"delay": 1, "backoff": 10}, [1, 10, 100, 1000]),
        ({"delay": 0}, [0, 0, 0, 0]),
        ({"delay": timedelta(minutes=1), "backoff": 1}, [60, 60, 60, 60]),
        ({"retry_delay": 5}, [5, 5, 5, 5]),
        ({"retry_delay": timedelta(seconds=5), "backoff": 2.0}, [5, 10, 20, 40]),
        ({"delay": 366 * 86_400, "backoff": 1e6}, [attempts.LONGEST_PAUSE] * 4),
    ],
    ids=repr,
)
def test_the_pauses_grow(
    pauses: list[float], options: dict[str, Any], expected: list[float]
) -> None:
    with pytest.raises(ValueError):
        Task(Flaky(*[ValueError] * 5), retries=4, **{"jitter": 0, **options})()
    assert pauses == expected


def test_growth_without_bound_is_bounded() -> None:
    made = Task(len, retries=10_000, backoff=1e6, jitter=0)
    assert attempts.pause_after(made, 9_999, ValueError()) == attempts.LONGEST_PAUSE
    assert attempts.pause_after(made, 10_001, ValueError()) is None


def test_jitter_spreads_the_pauses_by_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    for lot, expected in ((0.0, 8.0), (0.5, 10.0), (1.0, 12.0)):
        monkeypatch.setattr(random, "uniform", lambda a, b, lot=lot: a + lot * (b - a))
        made = Task(len, retries=1, delay=10, jitter=0.2)
        assert attempts.pause_after(made, 1, ValueError()) == pytest.approx(expected)
    monkeypatch.undo()
    usual = Task(len, retries=1, delay=10)
    found = {attempts.pause_after(usual, 1, ValueError()) for _ in range(50)}
    assert len(found) > 10 and all(one is not None and 9 <= one <= 11 for one in found)
    constant = Task(len, retries=1, retry_delay=10)
    assert {attempts.pause_after(constant, 1, ValueError()) for _ in range(50)} == {10.0}


@pytest.mark.parametrize(
    ("retry_on", "error", "calls"),
    [
        (ValueError, ValueError("x"), 3),
        (ValueError, KeyError("x"), 1),
        (OSError, ConnectionResetError("x"), 3),
        ((ValueError, KeyError), KeyError("x"), 3),
        ([ValueError], KeyError("x"), 1),
        ((), ValueError("x"), 1),
        (lambda error: "again" in str(error), ValueError("again"), 3),
        (lambda error: "again" in str(error), ValueError("never"), 1),
    ],
)
def test_only_some_errors_are_tried_again(
    pauses: list[float], retry_on: Any, error: BaseException, calls: int
) -> None:
    flaky = Flaky(error, error, error)
    with pytest.raises(type(error)):
        Task(flaky, retries=2, retry_on=retry_on)()
    assert flaky.calls == calls


@pytest.mark.parametrize("crucial", [True, False])
def test_a_predicate_that_fails_leaves_the_tasks_own_error(
    runs: Recorder, pauses: list[float], crucial: bool
) -> None:
    def broken(error: BaseException) -> bool:
        raise ZeroDivisionError

    flaky = Flaky(ValueError("the task's"))
    made = Task(flaky, retries=2, retry_on=broken, crucial_pass=crucial)

    @flow
    def run() -> Any:
        return made()

    if crucial:
        with pytest.raises(ValueError, match="the task's"):
            run()
    else:
        assert run() is None
    assert flaky.calls == 1 and runs.run.tasks[0].state == "FAILED"
    assert any("`retry_on` of task 'flaky' failed" in line for line in runs.run.logs)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_is_no_exception_is_not_tried_again(
    runs: Recorder, pauses: list[float], error: type[BaseException]
) -> None:
    flaky = Flaky(error)
    seen: list[State] = []
    made = Task(flaky, retries=3, state_handlers=[lambda task, old, new: seen.append(new)])

    @flow
    def run() -> None:
        made()

    with pytest.raises(error):
        run()
    assert flaky.calls == 1 and not pauses
    expected = "FAILED" if error is SystemExit else "CANCELLED"
    assert runs.run.tasks[0].state == runs.run.state == expected == seen[-1].wire


def test_a_task_that_is_not_crucial_is_tried_again_and_then_given_up(
    runs: Recorder, pauses: list[float]
) -> None:
    made = Task(Flaky(*[ValueError("x")] * 3), retries=1, crucial_pass=False)

    @flow
    def run() -> Any:
        return made(), made()

    assert run() == (None, "done")
    assert [(e.state, e.attempt) for e in runs.run.tasks] == [("FAILED", 2), ("COMPLETED", 2)]
    assert runs.run.state == "COMPLETED"


def test_a_result_that_did_not_pass_is_tried_again(runs: Recorder, pauses: list[float]) -> None:
    verdicts = [TaskResult(False, "first"), TaskResult(False, "second"), TaskResult(True, "third")]
    given = list(verdicts)
    made = Task(lambda: given.pop(0), name="judged", retries=2)

    @flow
    def run() -> Any:
        return made()

    assert run() is verdicts[2]
    (entry,) = runs.run.tasks
    assert (entry.state, entry.result) == ("COMPLETED", verdicts[2].to_dict())
    assert [one["error"]["message"] for one in entry.attempts] == [
        "task 'judged' did not pass: first",
        "task 'judged' did not pass: second",
    ]
    given[:] = verdicts[:2] * 2
    with pytest.raises(TaskFailed) as caught:
        made.copy(retries=1)
        flow(name="again")(lambda: made.copy(retries=1)())()
    assert caught.value.result is verdicts[1]
    entry = runs.run.tasks[0]
    assert (entry.state, entry.result) == ("FAILED", verdicts[1].to_dict())
    # Outside a flow nobody judges it, with options or without.
    given[:] = verdicts[:2]
    assert made.copy(retries=1)() is verdicts[1]


def test_what_a_failed_attempt_said_of_its_progress_is_forgotten(
    runs: Recorder, pauses: list[float]
) -> None:
    seen: list[float | None] = []
    session = get_session()

    @task(retries=1)
    def step() -> None:
        scope = next(record for record in session.recorded or () if isinstance(record, TaskRun))
        seen.append(scope.progress)
        progress(0.8)
        if len(seen) == 1:
            raise ValueError

    flow(name="f")(lambda: step())()
    assert seen == [None, None]


def test_nested_tasks_are_called_again_with_each_attempt(
    runs: Recorder, pauses: list[float]
) -> None:
    flaky = Task(Flaky(ValueError), name="inner")

    @task(retries=1)
    def outer() -> Any:
        return flaky()

    assert flow(name="f")(lambda: outer())() == "done"
    assert [(e.name, e.state, e.attempt) for e in runs.run.tasks] == [
        ("outer", "COMPLETED", 2),
        ("inner", "FAILED", 1),
        ("inner", "COMPLETED", 1),
    ]


def test_a_task_with_nothing_to_run_is_refused_at_once(pauses: list[float]) -> None:
    made = Task[[], None](max_retries=3, retry_delay=timedelta(minutes=10))
    assert (made.retries, made.delay) == (3, 600.0)
    with pytest.raises(ValueError, match="neither a function nor a run"):
        made()
    assert not pauses


def test_an_error_that_can_not_be_told_is_tried_again_all_the_same(
    runs: Recorder, pauses: list[float]
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    made = Task(Flaky(Mute(), ValueError()), retries=2)
    assert flow(name="f")(lambda: made())() == "done"
    (entry,) = runs.run.tasks
    assert [one["error"]["type"] for one in entry.attempts] == ["Mute", "ValueError"]
    assert attempts.failed(made, Mute()).message == "Mute"
    assert attempts.failed(made, ValueError()).message == "ValueError"
    assert attempts.failed(made, ValueError("x")).message == "ValueError: x"


# Async tasks and generators


def test_an_async_task_is_tried_again(runs: Recorder, pauses: list[float]) -> None:
    flaky = Flaky(ValueError("one"), KeyError("two"))

    @task(retries=2, jitter=0)
    async def later() -> Any:
        return flaky()

    @flow
    async def run() -> Any:
        return await later()

    assert asyncio.run(run()) == "done"
    assert pauses == [1.0, 2.0]
    (entry,) = runs.run.tasks
    assert [one["error"]["type"] for one in entry.attempts] == ["ValueError", "KeyError"]
    flaky.errors, flaky.calls = [OSError("alone")], 0
    assert asyncio.run(later()) == "done" and flaky.calls == 2


def test_a_cancelled_async_task_is_not_tried_again(runs: Recorder) -> None:
    began = 0
    seen: list[str] = []

    @task(retries=5, state_handlers=[lambda t, old, new: seen.append(new.type)])
    async def waiting() -> None:
        nonlocal began
        began += 1
        await asyncio.Event().wait()

    @flow
    async def run() -> None:
        one = asyncio.ensure_future(waiting())
        while not began:
            await asyncio.sleep(0)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one

    asyncio.run(run())
    assert began == 1 and runs.run.tasks[0].state == "CANCELLED"
    assert seen == ["Running", "Cancelled"]


def test_a_generator_tells_its_state_handlers_of_its_end(runs: Recorder) -> None:
    seen: list[str] = []

    @task(state_handlers=[lambda t, old, new: seen.append(f"{old.type}-{new.type}")])
    def rows(fails: bool = False) -> Iterator[int]:
        yield 1
        if fails:
            raise ValueError("broken")
        yield 2

    for run in (flow(name="f")(lambda fails: list(rows(fails))), lambda fails: list(rows(fails))):
        seen.clear()
        assert run(False) == [1, 2]
        assert seen == ["Pending-Running", "Running-Success"]
        seen.clear()
        with pytest.raises(ValueError, match="broken"):
            run(True)
        assert seen == ["Pending-Running", "Running-Failed"]
        seen.clear()
    assert [entry.state for run in runs.runs for entry in run.tasks] == ["COMPLETED", "FAILED"]
    next(made := rows())
    made.close()
    assert seen == ["Pending-Running", "Running-Success"]


def test_a_generator_may_be_unwanted_or_not_pass(runs: Recorder) -> None:
    @task(when=lambda count: count)
    def rows(count: int) -> Iterator[int]:
        yield from range(count)

    @task
    def judged() -> Iterator[int]:
        yield 1
        return TaskResult(False, "too few")  # type: ignore[return-value]

    @flow
    def run() -> list[int]:
        found = [*rows(0), *rows(2)]
        with pytest.raises(TaskFailed, match="too few"):
            list(judged())
        return found

    assert run() == [0, 1] == [*rows(0), *rows(2)]
    assert [e.state for e in runs.run.tasks] == ["SKIPPED", "COMPLETED", "FAILED"]


# Conditions


def test_when_tests_the_first_argument(runs: Recorder) -> None:
    large = task(when=lambda amount: amount > 1000)(lambda amount: f"large {amount}")

    @flow
    def run(amount: int) -> Any:
        return large(amount), large(amount=amount)

    assert run(1500) == ("large 1500", "large 1500")
    assert run(10) == (None, None)
    assert [(e.state, e.reason) for e in runs.run.tasks] == [
        ("SKIPPED", "not wanted: `when` says no")
    ] * 2
    assert runs.run.state == "COMPLETED"
    assert large(10) is None and large(1500) == "large 1500"


def test_when_without_anything_to_test(runs: Recorder) -> None:
    made = task(when=lambda value: True)(lambda: "ran")
    assert flow(name="f")(lambda: made())() is None
    (entry,) = runs.run.tasks
    assert (entry.state, entry.reason) == ("SKIPPED", "not wanted: there is nothing to test")
    assert made() is None


def test_a_condition_that_fails_fails_the_task_and_is_not_tried_again(
    runs: Recorder, pauses: list[float]
) -> None:
    made = task(when=lambda value: 1 / value, retries=3, name="made")(lambda value: "ran")
    with pytest.raises(ZeroDivisionError):
        flow(name="f")(lambda: made(0))()
    assert runs.run.tasks[0].state == "FAILED" and not pauses
    with pytest.raises(ZeroDivisionError):
        made(0)


# Limits


class Stuck:
    """A function that waits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.ended = threading.Event()
        self.threads: list[threading.Thread] = []
        self.__name__ = "stuck"

    def __call__(self) -> None:
        self.threads.append(threading.current_thread())
        try:
            assert self.go.wait(60)
        finally:
            self.ended.set()

    def let_go(self) -> None:
        self.go.set()
        for thread in self.threads:
            thread.join()


@everywhere
def test_a_task_that_takes_too_long_is_left_to_itself(
    runs: Recorder, caplog: pytest.LogCaptureFixture, way: Callable[..., Any]
) -> None:
    stuck = Stuck()
    with pytest.raises(TaskTimeout) as caught:
        way(Task(stuck, timeout=0.01))
    assert not stuck.ended.is_set() and stuck.threads[0].daemon
    assert (caught.value.task, caught.value.seconds) == ("stuck", 0.01)
    assert isinstance(caught.value, TimeoutError)
    assert "its thread can't be stopped and is left to itself" in caplog.text
    if runs.runs:
        (entry,) = runs.run.tasks
        assert entry.state == "FAILED" and "left to itself" in entry.logs[0]
    stuck.let_go()


def test_the_limit_holds_for_each_attempt(runs: Recorder, pauses: list[float]) -> None:
    stuck = Stuck()
    made = Task(stuck, timeout=timedelta(milliseconds=10), retries=2, retry_on=TimeoutError)
    with pytest.raises(TaskTimeout):
        flow(name="f")(lambda: made())()
    assert len(stuck.threads) == 3
    assert [one["error"]["type"] for one in runs.run.tasks[0].attempts] == ["TaskTimeout"] * 2
    stuck.let_go()


def test_a_task_within_its_limit_belongs_to_its_run(runs: Recorder) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    inner = task(name="inner")(lambda: threading.get_ident())

    @task(timeout=60)
    def limited(fail: bool) -> tuple[str, int, int]:
        print("in the thread")
        progress(0.5)
        seen = variable.get()
        variable.set("changed there")
        if fail:
            raise KeyError("there")
        return seen, threading.get_ident(), inner()

    @flow
    def run(fail: bool) -> tuple[str, int, int]:
        variable.set("ours")
        made = limited(fail)
        assert variable.get() == "ours"
        return made

    threads = threading.enumerate()
    seen, thread, inside = run(False)
    assert seen == "ours" and thread == inside != threading.get_ident()
    first, second = runs.run.tasks
    assert (first.logs, first.progress, second.name) == (["in the thread"], 0.5, "inner")
    with pytest.raises(KeyError, match="there") as caught:
        run(True)
    assert any(entry.name == "limited" for entry in caught.traceback)
    assert threading.enumerate() == threads  # none is left where the limit was not reached


def test_sys_exit_within_a_limit_is_raised_where_the_task_was_called() -> None:
    with pytest.raises(SystemExit):
        Task(lambda: sys.exit(3), timeout=60)()


def test_an_async_task_is_cancelled_at_its_limit(runs: Recorder) -> None:
    cancelled = []

    @task(timeout=0.01)
    async def waiting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    @flow
    async def run() -> None:
        await waiting()

    with pytest.raises(TaskTimeout):
        asyncio.run(run())
    assert cancelled == [True] and runs.run.tasks[0].state == "FAILED"
    with pytest.raises(TaskTimeout):
        asyncio.run(waiting())


def test_an_async_task_may_not_ignore_its_limit() -> None:
    @task(timeout=0.01)
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return "late"

    with pytest.raises(TaskTimeout):
        asyncio.run(stubborn())


def test_the_tasks_own_timeout_error_is_its_own() -> None:
    @task(timeout=60)
    async def later() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        asyncio.run(later())
    with pytest.raises(TimeoutError, match="mine"):
        Task(Flaky(TimeoutError("mine")), timeout=60)()


# Reuse


# What functions note here is no part of their keys, as what is in a closure would be.
CALLS: list[Any] = []
VERDICTS: list[TaskResult] = []


def counting(**options: Any) -> tuple[Task[..., Any], list[Any]]:
    @task(**options)
    def double(value: Any) -> Any:
        CALLS.append(value)
        return value * 2

    CALLS.clear()
    return double, CALLS


def test_a_result_is_reused(runs: Recorder) -> None:
    store = StateManager()
    double, calls = counting(cache=store)

    @flow
    def run() -> Any:
        return double(2), double(2), double(3), double(value=2)

    assert run() == (4, 4, 6, 4)
    assert calls == [2, 3]
    assert [(e.state, e.reason) for e in runs.run.tasks] == [
        ("COMPLETED", None),
        ("COMPLETED", "result of an earlier run"),
        ("COMPLETED", None),
        ("COMPLETED", "result of an earlier run"),
    ]
    assert double(2) == 4 and calls == [2, 3]
    assert counting(cache=store)[0](2) == 4 and calls == []  # the same code: the same key


def test_a_failure_is_not_kept(pauses: list[float]) -> None:
    flaky = Flaky(ValueError, ValueError)
    made = Task(flaky, cache=TaskCache(key=lambda: "k"), retries=1)
    with pytest.raises(ValueError):
        made()
    assert made() == made() == "done" and flaky.calls == 3


def test_a_result_that_did_not_pass_is_not_kept_and_one_that_did_is_shown_again(
    runs: Recorder,
) -> None:
    VERDICTS[:] = TaskResult(False, "no"), TaskResult(True, "yes")
    made = Task(lambda: VERDICTS.pop(0), name="judged", cache=StateManager(), crucial_pass=False)
    notes = flow(name="f")(lambda: [made().note for _ in range(3)])()
    assert notes == ["no", "yes", "yes"]
    last = runs.run.tasks[-1]
    assert last.result == {"passed": True, "note": "yes", "table": []}
    assert (last.state, last.reason) == ("COMPLETED", "result of an earlier run")


def test_arguments_that_have_no_key_are_run_with_a_warning(
    runs: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    double, calls = counting(cache=StateManager())

    class Odd:
        def __mul__(self, number: int) -> str:
            return "odd"

    odd = Odd()
    assert double(odd) == double(odd) == "odd" and len(calls) == 2
    assert caplog.text.count("task 'double' is run, not looked up in its cache") == 2


def test_a_cache_that_can_not_be_read_or_written_keeps_no_task_from_running(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(TaskCache):
        def lookup(self, key: str) -> tuple[bool, Any]:
            raise OSError("no disk")

        keep = lookup  # type: ignore[assignment]

    double, calls = counting(cache=Broken())
    assert double(2) == double(2) == 4 and calls == [2, 2]
    assert "its cache can't be read: no disk" in caplog.text
    assert "is not kept for reuse" in caplog.text


def test_a_key_function_that_fails_fails_the_task(pauses: list[float]) -> None:
    made = Task(lambda value: value, cache=TaskCache(key=lambda value: 1 / value), retries=2)
    with pytest.raises(ZeroDivisionError):
        made(0)
    assert made(2) == 2 and not pauses


class Multiply(Task[[int], int]):
    """A task of a subclass, whose result depends on what it was made with."""

    calls: list[tuple[int, int]] = []

    def __init__(self, factor: int, **options: Any) -> None:
        self.factor = factor
        super().__init__(**options)

    def run(self, value: int) -> int:
        self.calls.append((self.factor, value))
        return self.factor * value


def test_a_subclass_is_reused_by_what_it_was_made_with() -> None:
    store = StateManager()
    Multiply.calls.clear()
    twice, thrice = Multiply(2, cache=store), Multiply(3, cache=store, retries=1)
    twice >> thrice  # what a graph notes on a task is no part of the key
    assert [twice(5), thrice(5), twice(5), thrice(5), Multiply(2, cache=store)(5)] == [
        10,
        15,
        10,
        15,
        10,
    ]
    assert Multiply.calls == [(2, 5), (3, 5)]


def test_true_is_one_file_for_every_process(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        from perfect import flow, task

        @task(cache=True)
        def double(value):
            print("doubling")
            return value * 2

        @flow
        def run():
            return double(21)

        print(run())
    """)
    (tmp_path / "script.py").write_text(script)
    environment = {**os.environ, "PERFECT_HOME": str(tmp_path / "home"), "PERFECT_MOCK": "1"}
    said = [
        subprocess.run(
            [sys.executable, "script.py"],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(Path(sdk.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["doubling", "42"], ["42"]]


def test_an_async_result_is_reused() -> None:
    @task(cache=StateManager())
    async def later(value: int) -> int:
        CALLS.append(value)
        return value + 1

    CALLS.clear()
    assert asyncio.run(later(1)) == asyncio.run(later(1)) == 2 and CALLS == [1]


# State handlers


@everywhere
def test_state_handlers_see_every_change(
    runs: Recorder, pauses: list[float], way: Callable[..., Any]
) -> None:
    seen: list[tuple[Any, ...]] = []
    failures: list[Any] = []
    made = Task(
        Flaky(ValueError("one"), KeyError("two"), OSError("three")),
        retries=1,
        state_handlers=[lambda task, old, new: seen.append((task, old, new))],
        on_failure=lambda task, state: failures.append((task, state)),
    )
    with pytest.raises(KeyError):
        way(made)
    assert {task for task, *_ in seen} == {made}
    kinds = ["Pending", "Running", "Retrying", "Running", "Failed"]
    assert [old.type for _, old, _ in seen] == kinds[:-1]
    assert [new.type for *_, new in seen] == kinds[1:]
    retrying = seen[1][2]
    assert isinstance(retrying, Retrying) and retrying.attempt == 1
    assert isinstance(retrying.result, ValueError)
    assert [(task, type(state.result)) for task, state in failures] == [(made, KeyError)]
    # Skipped and reused calls are told of too.
    seen.clear()
    unwanted = made.copy(when=lambda value: False)
    unwanted()
    assert [(old.type, new.type) for _, old, new in seen] == [("Pending", "Skipped")]


def test_a_state_handler_may_decide(runs: Recorder, pauses: list[float]) -> None:
    def forgives(task: Any, old: State, new: State) -> State | None:
        return Success("forgiven", "instead") if new.is_failed() else None

    def refuses(task: Any, old: State, new: State) -> State | None:
        return Failed("not good enough") if new.is_successful() else None

    def stops(task: Any, old: State, new: State) -> State | None:
        return Cancelled("enough") if new.is_retrying() else None

    forgiven = Task(Flaky(ValueError), name="forgiven", state_handlers=[forgives])
    refused = Task(Flaky(), name="refused", state_handlers=[refuses])
    stopped = Task(Flaky(ValueError), name="stopped", retries=3, state_handlers=[stops])

    @flow
    def run() -> Any:
        value = forgiven(), stopped()
        with pytest.raises(TaskError, match="task 'refused' failed: not good enough"):
            refused()
        return value

    assert run()[0] == "instead" and not pauses
    assert [(e.name, e.state, e.reason) for e in runs.run.tasks] == [
        ("forgiven", "COMPLETED", "forgiven"),
        ("stopped", "CANCELLED", "enough"),
        ("refused", "FAILED", None),
    ]
    with pytest.raises(TaskError, match="not good enough"):
        refused()


def test_a_state_handler_that_is_wrong_changes_nothing(
    runs: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(task: Any, old: State, new: State) -> None:
        raise ZeroDivisionError

    made = Task(
        lambda: "value",
        name="made",
        state_handlers=[
            raises,
            lambda task, old, new: "nonsense",  # type: ignore[arg-type,return-value]
            lambda task, old, new: Pending() if new.is_finished() else None,
        ],
    )
    assert flow(name="f")(lambda: made())() == made() == "value"
    assert runs.run.tasks[0].state == "COMPLETED"
    for told in (
        "a state handler of 'made' failed",
        "a state handler of 'made' returned no State: 'nonsense'",
        "a state handler of 'made' may not make <Pending> of <Success>",
    ):
        assert told in caplog.text


# Interruptions: real processes

INTERRUPTED = """
    import sys, threading, time
    from perfect import configure, flow, task
    from perfect.testing import recorder

    configure(mock=True)

    @task(timeout=600)
    def stuck():
        print("ready", flush=True)
        threading.Event().wait()

    @task(retries=3, delay=600)
    def pausing():
        raise ValueError("once")

    said = []

    def sleep(seconds, really=time.sleep):
        if not said:
            said.append(print("ready", flush=True))
        really(seconds)

    time.sleep = sleep

    @flow
    def run():
        globals()[sys.argv[1]]()

    try:
        run()
    finally:
        made = recorder().run
        print(made.state, made.tasks[0].state, len(made.tasks[0].attempts), flush=True)
"""


@pytest.mark.parametrize(("what", "attempted"), [("stuck", 0), ("pausing", 1)])
def test_ctrl_c_ends_a_pause_and_a_limit_at_once(tmp_path: Path, what: str, attempted: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED), what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)  # it would take 10 minutes
    finally:
        process.kill()
        process.wait()
    assert said == f"CANCELLED CANCELLED {attempted}\n", errors
    assert "KeyboardInterrupt" in errors and process.returncode == -signal.SIGINT


# What is told


def entry_of(encoder: Encoder, *states: str) -> tuple[TaskRun, list[dict[str, Any]]]:
    """A task run that lives through these states, and its events where the sender looks at each `|`."""
    import json

    run = FlowRun({"name": "f", "tags": {}, "tasks": []}, lambda record: None)
    entry = TaskRun(run, 0, Task(len), None, run.started)  # type: ignore[arg-type]
    told = []
    for state in states:
        if state == "retrying":
            entry.retrying(ValueError(f"number {entry.attempt}"), "again")
        elif state == "resumed":
            entry.resumed()
        elif state == "completed":
            entry.ended, entry.state = time.time(), TaskState.COMPLETED
        else:
            event = encoder.encode(entry)
            told.append(json.loads(event.text) if event is not None else {})
    return entry, told


@pytest.mark.parametrize(
    "lived",
    [
        "| retrying | resumed | retrying | resumed | completed |",
        "| retrying resumed | retrying resumed completed |",
        "| retrying resumed retrying resumed completed |",
        "retrying resumed retrying | resumed completed |",
        "retrying resumed retrying resumed completed |",
        "| retrying resumed retrying | resumed | completed |",
    ],
)
def test_no_attempt_is_lost_however_the_events_are_merged(lived: str) -> None:
    _, told = entry_of(Encoder(Redactor()), *lived.split())
    errors = {
        one["attempt"]: one["error"]["message"]
        for fields in told
        for one in fields.get("attempts", ())
    }
    assert errors == {1: "number 1", 2: "number 2"}
    last = told[-1]
    assert (last["state"], last["attempt"], "error" in last) == ("COMPLETED", 3, False)


def test_attempts_are_not_told_again_and_again() -> None:
    lived = "| retrying | resumed | retrying | resumed | completed |"
    _, told = entry_of(Encoder(Redactor()), *lived.split())
    # Once more when the next one has begun: until then more might have been noted of it.
    assert [[one["attempt"] for one in fields.get("attempts", ())] for fields in told] == [
        *([], [1], [1], [2], [2], [])
    ]


def test_only_the_newest_attempts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    entry, (told,) = entry_of(Encoder(Redactor()), *["retrying", "resumed"] * 150, "|")
    assert entry.attempts is not None
    assert [one["attempt"] for one in told["attempts"]] == list(range(51, 151))


def test_the_backend_has_all_of_it(backend: BackendProcess, tmp_path: Path) -> None:
    """From the decorator to the run's JSON, with nothing in between replaced."""
    configure(backend_url=backend.url, home=str(tmp_path / "client"))
    flaky = Flaky(ValueError("first"), KeyError("second"))
    waited = threading.Event()

    @task(retries=2, delay=0)
    def retried() -> Any:
        waited.wait(0.02)  # so that an attempt has a duration
        return flaky()

    @task(retries=1, delay=0, crucial_pass=False)
    def given_up() -> None:
        raise OSError("always")

    @task(when=lambda value: value > 10)
    def unwanted(value: int) -> None: ...

    @task(cache=StateManager())
    def reused(value: int) -> int:
        return value

    @task
    def element(value: int) -> int:
        return value

    @flow(name="with attempts")
    def run() -> Any:
        return retried(), given_up(), unwanted(1), reused(1), reused(1), element.map([7, 8])

    assert run() == ("done", None, None, 1, 1, [7, 8])
    assert get_session().flush(20)
    (made,) = [one for one in backend.get("/api/engine/runs") if one["flowName"] == "with attempts"]
    made = backend.get(f"/api/runs/{made['id']}")
    made = made.get("run", made)
    assert made["state"] == "COMPLETED"
    first, second, third, fourth, fifth, *elements = made["tasks"]
    assert (first["state"], first["attempt"], first["error"]) == ("COMPLETED", 3, None)
    assert [(one["attempt"], one["error"]["type"]) for one in first["attempts"]] == [
        (1, "ValueError"),
        (2, "KeyError"),
    ]
    assert all(one["durationMs"] >= 15 for one in first["attempts"])
    assert first["attempts"][0]["reason"].startswith("attempt 1 of 3 failed")
    assert "number" not in first["attempts"][0]["error"]["traceback"]
    assert (second["state"], second["attempt"], second["error"]["message"]) == (
        "FAILED",
        2,
        "always",
    )
    assert len(second["attempts"]) == 1
    assert (third["state"], third["reason"]) == ("SKIPPED", "not wanted: `when` says no")
    assert (fourth["state"], fourth["reason"]) == ("COMPLETED", None)
    assert (fifth["state"], fifth["reason"]) == ("COMPLETED", "result of an earlier run")
    assert sorted((one["taskName"], one["mapIndex"]) for one in elements) == [
        ("element", 0),
        ("element", 1),
    ]
