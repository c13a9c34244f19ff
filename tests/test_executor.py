"""One run of a flow: its tasks, states, failures, and what is left of them in the caller's hands."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import urllib.error
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from perfect import capture, context, terminal, testing, ticker
from perfect.api import ExecutionRequest
from perfect.context import current
from perfect.errors import ConfigurationError, NotFound, TaskFailed
from perfect.executor import create_execution_handler
from perfect.failures import describe, state_after
from perfect.sdk import TaskResult, flow, get_registry, progress, propagate, task
from perfect.session import get_session
from perfect.signals import Terminated
from perfect.testing import Recorder


@pytest.fixture
def runs() -> Iterator[Recorder]:
    with testing.mock() as recorder:
        yield recorder


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    streams = sys.stdout, sys.stderr
    handler = signal.getsignal(signal.SIGTERM)
    yield
    assert (sys.stdout, sys.stderr) == streams
    assert signal.getsignal(signal.SIGTERM) is handler
    assert current.get() is None
    assert not context._active and not ticker._executors
    assert capture._users == terminal._users == 0


def states(recorder: Recorder) -> list[tuple[str, str]]:
    return [(entry.name, str(entry.state)) for entry in recorder.run.tasks]


@task
def good(value: Any = 1) -> Any:
    return value


@task
def bad() -> None:
    raise ValueError("broken")


@task(crucial_pass=False)
def optional() -> None:
    raise ValueError("broken")


# The ordinary way


def test_a_flow_returns_its_value_and_its_run_tells_everything(runs: Recorder) -> None:
    @flow(tags={"team": "data"})
    def etl(source: str, *, limit: int = 5) -> list[int]:
        return [good(number) for number in range(limit)]

    assert etl("sales", limit=3) == [0, 1, 2]
    run = runs.run
    assert (run.flow, run.state, run.error, run.reason, run.parent) == (
        *("etl", "COMPLETED", None, None, None),
    )
    assert run.parameters == {"source": "sales", "limit": 3}
    assert (run.tags, run.configuration) == ({"team": "data"}, "development")
    assert [(entry.index, entry.name, entry.state) for entry in run.tasks] == [
        (index, "good", "COMPLETED") for index in range(3)
    ]
    assert all(entry.duration >= 0 and entry.attempt == 1 for entry in run.tasks)


def test_a_task_gets_its_arguments_and_gives_its_value_untouched(runs: Recorder) -> None:
    given, kept = object(), {"a": [1]}
    taker = task(lambda a, /, *rest, b, **others: (a, rest, b, others))

    @flow
    def run() -> Any:
        return taker(given, 2, b=kept, c=None)

    a, rest, b, others = run()
    assert a is given and b is kept and (rest, others) == ((2,), {"c": None})


def test_a_flow_without_tasks(runs: Recorder) -> None:
    assert flow(name="empty")(lambda: 5)() == 5
    assert (runs.run.state, runs.run.tasks) == ("COMPLETED", [])


def test_a_task_of_0_ms(runs: Recorder) -> None:
    instant = task(estimated_time=0, weight=0)(lambda: "done")
    assert flow(name="instant")(lambda: instant())() == "done"
    assert runs.run.tasks[0].state == "COMPLETED"


def test_a_task_outside_a_flow_is_its_function(runs: Recorder) -> None:
    assert good(4) == 4
    with pytest.raises(ValueError, match="broken"):
        optional()
    assert runs.runs == []


def test_a_task_in_a_task(runs: Recorder) -> None:
    outer = task(name="outer")(lambda: good(2) + good(3))
    assert flow(name="nested")(lambda: outer())() == 5
    assert states(runs) == [("outer", "COMPLETED"), ("good", "COMPLETED"), ("good", "COMPLETED")]


# Failures


def test_a_crucial_task_that_raises_fails_the_flow_at_once(runs: Recorder) -> None:
    @flow
    def run() -> None:
        good()
        bad()
        good()

    with pytest.raises(ValueError, match="broken") as caught:
        run()
    assert runs.run.state == "FAILED"
    assert states(runs) == [("good", "COMPLETED"), ("bad", "FAILED")]
    error = runs.run.tasks[1].error
    assert error is not None and (error["type"], error["message"]) == ("ValueError", "broken")
    assert runs.run.error == error | {"traceback": runs.run.error["traceback"]}  # type: ignore[index]
    # The user's frames, and none of ours.
    assert 'raise ValueError("broken")' in error["traceback"]
    assert "perfect/executor.py" not in error["traceback"]
    assert "perfect/tasks.py" not in error["traceback"]
    assert caught.value.__traceback__ is not None


def test_a_crucial_task_that_did_not_pass_fails_the_flow_at_once(runs: Recorder) -> None:
    result = TaskResult(False, "3 rows are missing", [{"row": 1}])
    check = task(name="check")(lambda: result)

    @flow
    def run() -> None:
        check()
        good()

    with pytest.raises(TaskFailed, match="3 rows are missing") as caught:
        run()
    assert caught.value.result is result and caught.value.task == "check"
    assert (runs.run.state, states(runs)) == ("FAILED", [("check", "FAILED")])
    assert runs.run.tasks[0].result == result.to_dict()


def test_a_task_that_is_not_crucial_lets_the_flow_go_on(
    runs: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    result = TaskResult(False, "late")
    check = task(name="check", crucial_pass=False)(lambda: result)

    @flow
    def run() -> Any:
        return optional(), check(), good()

    assert run() == (None, result, 1)
    assert runs.run.state == "COMPLETED"
    assert states(runs) == [("optional", "FAILED"), ("check", "FAILED"), ("good", "COMPLETED")]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "ValueError: broken" in caplog.text and "late" in caplog.text
    for entry in runs.run.tasks[:2]:  # each warning stands in its task's log
        assert any("not crucial" in line for line in entry.logs)


def test_a_passed_result_is_returned_and_kept(runs: Recorder) -> None:
    result = TaskResult(passed=True, note="fine", table=[{"metric": "rows", "value": 100}])
    check = task(name="check")(lambda: result)
    assert flow(name="f")(lambda: check())() is result
    result.table[0]["value"] = 0
    assert runs.run.tasks[0].result == {
        "passed": True,
        "note": "fine",
        "table": [{"metric": "rows", "value": 100}],
    }


def test_a_crucial_failure_that_the_flow_catches(runs: Recorder) -> None:
    @flow
    def run() -> str:
        try:
            bad()
        except ValueError:
            pass
        good()
        return "went on"

    assert run() == "went on"
    assert runs.run.state == "FAILED"
    assert runs.run.reason is not None and "'bad'" in runs.run.reason
    assert states(runs) == [("bad", "FAILED"), ("good", "COMPLETED")]


def test_a_flow_that_raises_outside_any_task(runs: Recorder) -> None:
    @flow
    def run() -> None:
        good()
        raise KeyError("outside")

    with pytest.raises(KeyError):
        run()
    assert runs.run.state == "FAILED" and states(runs) == [("good", "COMPLETED")]
    assert runs.run.error is not None and runs.run.error["type"] == "KeyError"


def test_wrong_arguments_fail_the_run_as_python_would(runs: Recorder) -> None:
    @flow
    def run(source: str) -> None:
        good(1, 2, 3)

    with pytest.raises(TypeError, match="source"):
        run()  # type: ignore[call-arg]
    assert (runs.run.state, runs.run.parameters) == ("FAILED", {})
    with pytest.raises(TypeError, match="positional argument"):
        run("x")
    assert states(runs) == [("good", "FAILED")]


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route"),
        TimeoutError("slow"),
        ConnectionError("reset"),
        ConnectionRefusedError(111, "refused"),
        queue.Empty(),
        StopAsyncIteration(),
        ExceptionGroup("several", [ValueError("one"), OSError("two")]),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("inside", [True, False], ids=["task", "flow"])
def test_network_errors_of_the_user_are_the_users(
    runs: Recorder, error: Exception, inside: bool
) -> None:
    """Earlier clients ran the flow a second time, or took these for a tracking failure."""
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        raise error

    step = task(name="step")(body) if inside else body
    with pytest.raises(type(error)) as caught:
        flow(name="f")(lambda: step())()
    assert caught.value is error
    assert len(calls) == 1 and len(runs.runs) == 1
    assert runs.run.state == "FAILED"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (KeyboardInterrupt(), "CANCELLED"),
        (Terminated(), "CANCELLED"),
        (asyncio.CancelledError(), "CANCELLED"),
        (SystemExit(3), "FAILED"),
        (SystemExit(), "FAILED"),
        (GeneratorExit(), "FAILED"),
        (ValueError(), "FAILED"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
@pytest.mark.parametrize("crucial", [True, False])
def test_interruptions_end_the_run_and_go_on_up(
    runs: Recorder, error: BaseException, state: str, crucial: bool
) -> None:
    def body() -> None:
        raise error

    step = task(name="step", crucial_pass=crucial)(body)
    run = flow(name="f")(lambda: step())
    if isinstance(error, Exception) and not crucial:
        run()
        assert (runs.run.state, states(runs)) == ("COMPLETED", [("step", state)])
        return
    with pytest.raises(type(error)) as caught:
        run()
    assert caught.value is error
    assert (runs.run.state, states(runs)) == (state, [("step", state)])
    assert state_after(error) == state


def test_recursion_without_end_closes_every_task(runs: Recorder) -> None:
    @task
    def deeper(level: int) -> Any:
        return deeper(level + 1)

    with pytest.raises(RecursionError):
        flow(name="f")(lambda: deeper(0))()
    assert runs.run.state == "FAILED"
    assert set(Counter(str(entry.state) for entry in runs.run.tasks)) == {"FAILED"}


def test_recursion_with_an_end(runs: Recorder) -> None:
    @task
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    assert flow(name="f")(lambda: factorial(20))() == math.factorial(20)
    assert states(runs) == [("factorial", "COMPLETED")] * 20


def test_an_exception_that_can_not_be_described(runs: Recorder) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

        __repr__ = __str__

    def body() -> None:
        raise Mute()

    step = task(name="step")(body)
    with pytest.raises(Mute):
        flow(name="f")(lambda: step())()
    assert runs.run.state == "FAILED"
    assert runs.run.error is not None and runs.run.error["type"] == "Mute"
    json.dumps(runs.run.error)


def test_a_described_error_keeps_causes_and_is_bounded() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ValueError("\ud800" + "x" * 100_000) from first
    except ValueError as error:
        told = describe(error)
    assert told["type"] == "ValueError" and len(told["message"]) < 70_000
    assert "KeyError: 'first'" in told["traceback"]
    assert "direct cause" in told["traceback"]
    json.dumps(told, ensure_ascii=False).encode()


# Odd results


class NoText:
    def __str__(self) -> str:
        raise ValueError("no text")


class NoTruth:
    def __bool__(self) -> bool:
        raise ValueError("neither")


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


ODD: dict[str, Any] = {
    "nan": math.nan,
    "set": {1, 2},
    "module": json,
    "bytes": b"\xff\x00",
    "circle": _circle(),
    "lock": threading.Lock(),
    "huge": 10**5000,
    "surrogate": "\ud800",
    "no text": NoText(),
    "table": [{"id": i, "text": "x" * 90} for i in range(50_000)],
}


@pytest.mark.parametrize("name", ODD)
def test_odd_results_come_through_and_are_reported(runs: Recorder, name: str) -> None:
    value = ODD[name]

    @task
    def plain() -> Any:
        return value

    @task
    def result() -> TaskResult:
        return TaskResult(True, value, [{"column": value}, value, {value: 1} if name == "nan" else 2])  # type: ignore[list-item]

    @task
    def whole() -> TaskResult:
        return TaskResult(True, table=value)

    @flow
    def run() -> Any:
        result()
        whole()
        return plain()

    assert run() is value
    assert states(runs) == [(entry, "COMPLETED") for entry in ("result", "whole", "plain")]
    for entry in runs.run.tasks[:2]:
        text = json.dumps(entry.result, allow_nan=False, ensure_ascii=False)
        assert json.loads(text.encode())["table"] is not None
        assert isinstance(entry.result["note"], str)  # type: ignore[index]
        assert all(isinstance(row, dict) for row in entry.result["table"])  # type: ignore[index]


def test_a_result_that_can_not_be_told_passed_does_not_break_the_reporting(runs: Recorder) -> None:
    step = task(name="step", crucial_pass=False)(lambda: TaskResult(NoTruth()))  # type: ignore[arg-type]
    flow(name="f")(lambda: step())()
    assert states(runs)[0][1] in ("COMPLETED", "FAILED")
    assert runs.run.tasks[0].result is not None


def test_odd_parameters_are_shown_bounded(runs: Recorder) -> None:
    @flow
    def run(*args: Any, **kwargs: Any) -> None: ...

    run(NoText(), "x" * 5000, rows=list(range(1000)), circle=_circle())
    shown = runs.run.parameters
    json.dumps(shown, allow_nan=False)
    assert len(json.dumps(shown)) < 4000
    assert shown["args"][1].endswith("… [cut, 4000 characters]")
    assert shown["rows"][-1] == "… 900 more"


# async


def test_an_async_flow_with_gathered_tasks(runs: Recorder) -> None:
    order: list[str] = []

    @task
    async def fetch(name: str, turns: int) -> str:
        print("begin", name)
        for _ in range(turns):
            await asyncio.sleep(0)
        order.append(name)
        print("end", name)
        return name

    @flow
    async def run() -> list[str]:
        return await asyncio.gather(fetch("slow", 20), fetch("quick", 1))

    assert asyncio.run(run()) == ["slow", "quick"]
    assert order == ["quick", "slow"]
    assert runs.run.state == "COMPLETED"
    assert [entry.logs for entry in runs.run.tasks] == [
        ["begin slow", "end slow"],
        ["begin quick", "end quick"],
    ]


def test_async_failures(runs: Recorder) -> None:
    @task
    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("async")

    @task(crucial_pass=False)
    async def optional_failing() -> None:
        raise ValueError("optional")

    @flow
    async def run() -> None:
        assert await optional_failing() is None
        await failing()

    with pytest.raises(ValueError, match="async"):
        asyncio.run(run())
    assert runs.run.state == "FAILED"
    assert states(runs) == [("optional_failing", "FAILED"), ("failing", "FAILED")]


def test_a_cancelled_async_task(runs: Recorder) -> None:
    @task
    async def forever() -> None:
        await asyncio.Event().wait()

    @flow
    async def run() -> str:
        try:
            await asyncio.wait_for(forever(), 0.01)
        except TimeoutError:
            return "timed out"
        return "ended"

    assert asyncio.run(run()) == "timed out"
    assert (runs.run.state, states(runs)) == ("COMPLETED", [("forever", "CANCELLED")])


def test_async_results(runs: Recorder) -> None:
    @task
    async def check(passed: bool) -> TaskResult:
        return TaskResult(passed, "note")

    @flow
    async def run() -> None:
        assert (await check(True)).passed
        await check(False)

    with pytest.raises(TaskFailed):
        asyncio.run(run())
    assert states(runs) == [("check", "COMPLETED"), ("check", "FAILED")]


def test_sync_tasks_in_threads_of_an_async_flow(runs: Recorder) -> None:
    @flow
    async def run() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(good, n) for n in range(5)))

    assert asyncio.run(run()) == list(range(5))
    assert states(runs) == [("good", "COMPLETED")] * 5


def test_a_sync_flow_inside_a_running_loop(runs: Recorder) -> None:
    inner = flow(name="inner")(lambda: good(3))

    async def main() -> int:
        return int(inner())

    assert asyncio.run(main()) == 3
    assert runs.run.state == "COMPLETED"


def test_two_async_flows_at_once_keep_apart(runs: Recorder) -> None:
    @task
    async def step(name: str) -> None:
        await asyncio.sleep(0)
        print(name)
        await asyncio.sleep(0)

    @flow
    async def run(name: str) -> None:
        await step(name)
        await step(name)

    async def main() -> None:
        await asyncio.gather(run("a"), run("b"))

    asyncio.run(main())
    assert len(runs.runs) == 2
    for run_ in runs.runs:
        assert run_.logs == [run_.parameters["name"]] * 2
        assert [entry.index for entry in run_.tasks] == [0, 1]
        assert run_.parent is None


# Generators


def test_a_generator_task_lasts_until_it_is_exhausted(runs: Recorder) -> None:
    @task
    def rows() -> Generator[int, str, str]:
        print("first")
        got = yield 1
        print("got", got)
        yield 2
        return "end"

    @flow
    def run() -> Any:
        generator = rows()
        assert next(generator) == 1
        good()  # between: not part of the generator's task
        print("flow")
        assert generator.send("hello") == 2
        with pytest.raises(StopIteration) as stop:
            next(generator)
        return stop.value.value

    assert run() == "end"
    assert states(runs) == [("rows", "COMPLETED"), ("good", "COMPLETED")]
    assert runs.run.task("rows").logs == ["first", "got hello"]
    assert runs.run.logs == ["first", "flow", "got hello"]


def test_a_generator_that_is_left_early_is_completed(runs: Recorder) -> None:
    closed: list[bool] = []

    @task
    def rows() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    @flow
    def run() -> int:
        for row in rows():
            return row
        return -1

    assert run() == 0
    gc.collect()
    assert closed == [True]
    assert (runs.run.state, states(runs)) == ("COMPLETED", [("rows", "COMPLETED")])


def test_what_is_thrown_into_a_generator_arrives_there(runs: Recorder) -> None:
    @task
    def rows() -> Generator[str, None, None]:
        try:
            yield "one"
        except KeyError:
            yield "handled"

    @flow
    def run() -> str:
        generator = rows()
        next(generator)
        return generator.throw(KeyError("x"))

    assert run() == "handled"


def test_a_generator_that_fails(runs: Recorder) -> None:
    @task
    def rows() -> Iterator[int]:
        yield 1
        raise ValueError("in the middle")

    @task(crucial_pass=False)
    def optional_rows() -> Iterator[int]:
        yield 1
        raise ValueError("in the middle")

    @flow
    def run() -> None:
        assert list(optional_rows()) == [1]
        list(rows())

    with pytest.raises(ValueError, match="in the middle"):
        run()
    assert states(runs) == [("optional_rows", "FAILED"), ("rows", "FAILED")]


def test_a_generator_called_wrongly(runs: Recorder) -> None:
    @task
    def rows(start: int) -> Iterator[int]:
        yield start

    @flow
    def run() -> None:
        with pytest.raises(TypeError, match="start"):
            list(rows())  # type: ignore[call-arg]

    run()
    assert (runs.run.state, states(runs)) == ("FAILED", [("rows", "FAILED")])


def test_a_generator_consumed_after_its_run_is_not_part_of_it(runs: Recorder) -> None:
    @task
    def rows() -> Iterator[int]:
        yield from range(3)

    @flow
    def run() -> Iterator[int]:
        return rows()

    generator = run()
    assert runs.run.state == "COMPLETED"
    assert list(generator) == [0, 1, 2]
    assert states(runs) == []


def test_an_async_generator_is_refused() -> None:
    async def rows() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ConfigurationError, match="async generator"):
        task(rows)


# Threads


def test_a_thread_pool_inside_a_flow(runs: Recorder) -> None:
    @flow
    def run() -> list[Any]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(good, range(50)))

    assert run() == list(range(50))
    assert [entry.index for entry in runs.run.tasks] == list(range(50))
    assert states(runs) == [("good", "COMPLETED")] * 50


def test_pools_of_two_runs_at_once_keep_apart_with_propagate(runs: Recorder) -> None:
    both = threading.Barrier(2)

    @task
    def step(name: str) -> str:
        print("step of", name)
        return name

    @flow
    def run(name: str) -> None:
        both.wait(20)
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(propagate(step), [name] * 30)) == [name] * 30
        both.wait(20)

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs.runs) == 2
    for run_ in runs.runs:
        name = run_.parameters["name"]
        assert run_.state == "COMPLETED" and len(run_.tasks) == 30
        assert run_.logs == [f"step of {name}"] * 30


def test_a_failure_in_a_pool_comes_out_of_the_flow(runs: Recorder) -> None:
    @flow
    def run() -> None:
        with ThreadPoolExecutor(2) as pool:
            pool.submit(bad).result()

    with pytest.raises(ValueError, match="broken"):
        run()
    assert (runs.run.state, states(runs)) == ("FAILED", [("bad", "FAILED")])


def test_a_flow_in_a_thread_is_no_child_of_one_that_happens_to_run(runs: Recorder) -> None:
    """The parallel flows of the documentation: the threads are started one after another."""
    running, go = threading.Event(), threading.Event()

    @flow
    def first() -> None:
        running.set()
        go.wait(20)

    @flow
    def second() -> None:
        good()

    one = threading.Thread(target=first)
    one.start()
    running.wait(20)
    two = threading.Thread(target=second)
    two.start()
    two.join()
    go.set()
    one.join()
    assert [(run.flow, run.parent, len(run.tasks)) for run in runs.runs] == [
        ("first", None, 0),
        ("second", None, 1),
    ]


def test_a_task_in_a_thread_that_outlives_the_flow(runs: Recorder) -> None:
    started, go = threading.Event(), threading.Event()
    found: list[Any] = []

    @task
    def slow() -> None:
        started.set()
        go.wait(20)

    @flow
    def run() -> threading.Thread:
        def work() -> None:
            slow()
            found.append(good("late"))

        thread = threading.Thread(target=propagate(work))
        thread.start()
        started.wait(20)
        return thread

    thread = run()
    ended = [(entry.name, entry.state) for entry in runs.run.tasks]
    assert all(state.is_terminal for _, state in ended)
    go.set()
    thread.join()
    assert found == ["late"]
    # What was said at the end stays: terminal is final.
    assert [(entry.name, entry.state) for entry in runs.run.tasks] == ended


# Flows in flows


@flow
def inner_flow() -> str:
    good()
    return "inner"


def test_a_flow_in_a_flow_is_a_run_of_its_own_with_a_parent(runs: Recorder) -> None:
    inside = task(name="inside")(lambda: inner_flow())

    @flow
    def outer() -> tuple[str, str]:
        return inner_flow(), inside()

    assert outer() == ("inner", "inner")
    top, first, second = runs.runs
    assert (top.flow, top.parent) == ("outer", None)
    assert [first.parent, second.parent] == [top.id, top.id]
    assert [entry.name for entry in top.tasks] == ["inside"]
    assert [entry.name for entry in first.tasks + second.tasks] == ["good", "good"]


def test_an_inner_flow_that_fails_fails_both_unless_it_is_caught(runs: Recorder) -> None:
    inner = flow(name="inner")(lambda: bad())

    @flow
    def catching() -> str:
        with pytest.raises(ValueError):
            inner()
        return "caught"

    assert catching() == "caught"
    assert [(run.flow, run.state) for run in runs.runs] == [
        ("catching", "COMPLETED"),
        ("inner", "FAILED"),
    ]


# Progress


def test_progress_is_told_within_a_task_and_ignored_elsewhere(runs: Recorder) -> None:
    def body() -> None:
        progress(0.25)
        progress(1)

    step = task(name="step")(body)

    @flow
    def run() -> None:
        progress(0.5)
        step()
        good()

    progress(0.5)
    run()
    assert [entry.progress for entry in runs.run.tasks] == [1.0, None]


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan, "half", None, True])
def test_progress_that_is_none(fraction: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        progress(fraction)
    assert caught.value.argument == "fraction"


# Requests from outside


def test_a_request_is_executed_under_its_id(runs: Recorder) -> None:
    @flow
    def etl(source: str = "sales") -> str:
        print("reading", source)
        return source

    handle = create_execution_handler(get_registry(), get_session())
    request = ExecutionRequest("given-id", "etl", "release", {"source": "stock"})
    assert handle(request) == "stock"
    assert (runs.run.id, runs.run.configuration, runs.run.state) == (
        *("given-id", "release", "COMPLETED"),
    )
    assert runs.run.logs == ["reading stock"]


def test_requests_that_can_not_be_executed_fail_their_run(runs: Recorder) -> None:
    @flow
    def etl(self: str, source: str) -> str:
        return self + source

    @flow
    async def later(source: str) -> None:
        raise SystemExit(source)

    handle = create_execution_handler(get_registry(), get_session())
    assert handle(ExecutionRequest("one", "no such flow")) is None
    assert handle(ExecutionRequest("two", "etl", parameters={"colour": "red"})) is None
    assert handle(ExecutionRequest("three", "later", parameters={"source": "x"})) is None
    assert handle(ExecutionRequest("four", "etl", parameters={"self": "a", "source": "b"})) == "ab"
    assert [(run.id, run.state) for run in runs.runs] == [
        *[("one", "FAILED"), ("two", "FAILED"), ("three", "FAILED"), ("four", "COMPLETED")]
    ]
    missing = runs.runs[0]
    assert missing.flow == "no such flow"
    assert missing.error is not None and missing.error["type"] == NotFound.__name__


# Nothing of ours may stand in the way


def test_a_flow_runs_where_no_thread_is_to_be_had(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in mock mode: the session can't be started."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert inner_flow() == "inner"


# Signals, in a process of its own


def process(text: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PERFECT_MOCK": "1", "PYTHONPATH": os.getcwd()},
    )


WAITING = """
    import atexit, signal, sys, time
    from perfect import flow, task
    from perfect.testing import recorder

    out = sys.stdout

    @atexit.register
    def tell():
        assert sys.stdout is out
        print([(str(run.state), [str(entry.state) for entry in run.tasks]) for run in recorder().runs])

    @task
    def wait():
        print("ready", flush=True)
        time.sleep(60)

    @flow
    def run():
        try:
            wait()
        finally:
            print("cleaned up")

    run()
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)]
)
def test_a_signal_cancels_the_run_and_ends_the_process(number: int, code: int) -> None:
    with process(WAITING) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(number)
        out, err = running.communicate(timeout=30)
    assert out == "cleaned up\n[('CANCELLED', ['CANCELLED'])]\n", err
    assert running.returncode == code


def test_a_handler_of_the_users_stays() -> None:
    text = WAITING.replace(
        "    @task",
        "    signal.signal(signal.SIGTERM, lambda *_: (print('mine', flush=True), sys.exit(5)))\n\n    @task",
        1,
    )
    with process(text) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=30)
    assert out == "mine\ncleaned up\n[('FAILED', ['FAILED'])]\n", err
    assert running.returncode == 5


def test_a_second_sigterm_ends_the_process_at_once() -> None:
    text = WAITING.replace('print("cleaned up")', "print('cleaning', flush=True); time.sleep(60)")
    with process(text) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        assert running.stdout.readline() == "cleaning\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == -signal.SIGTERM


def test_the_callers_frames_are_in_the_traceback_of_the_user(runs: Recorder) -> None:
    try:
        flow(name="f")(lambda: bad())()
    except ValueError:
        text = traceback.format_exc()
    assert 'raise ValueError("broken")' in text


def test_time_is_measured_between_begin_and_end(runs: Recorder) -> None:
    step = task(name="step")(lambda: time.sleep(0.02))
    flow(name="f")(lambda: step())()
    assert runs.run.tasks[0].duration >= 0.02


@pytest.mark.parametrize(("crucial", "state"), [(True, "FAILED"), (False, "COMPLETED")])
def test_a_task_that_outlives_its_flow_fails_it_if_it_is_crucial(
    runs: Recorder, crucial: bool, state: str
) -> None:
    begun, let_go = threading.Event(), threading.Event()

    @task(crucial_pass=crucial)
    def stays() -> None:
        begun.set()
        let_go.wait(30)

    thread = threading.Thread(target=stays)

    @flow
    def leaves() -> str:
        thread.start()
        assert begun.wait(30)
        return "gone"

    assert leaves() == "gone"
    let_go.set()
    thread.join()
    assert runs.run.state == state
    assert runs.run.tasks[0].state == "FAILED"
    if crucial:
        assert runs.run.reason == "crucial task 'stays' was still running when the flow ended"
