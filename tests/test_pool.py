"""`submit` and `map` in eager flows: threads, context, failures, and what is left when the flow ends."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import pytest

from perfect import testing, workers
from perfect.context import current
from perfect.errors import ConfigurationError, TaskFailed
from perfect.mapping import unmapped
from perfect.pool import AHEAD, FlowPool
from perfect.sdk import TaskResult, flow, progress, propagate, task
from perfect.tasks import Task
from perfect.testing import Recorder
from perfect.workers import MOST_THREADS


@pytest.fixture
def runs() -> Iterator[Recorder]:
    with testing.mock() as recorder:
        yield recorder


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name == "perfect-relay":  # hears forked children, as long as the process lives
            continue
        thread.join(10)
        assert not thread.is_alive(), thread


@task
def double(value: int) -> int:
    return value * 2


@task
def thread_of(value: Any = None) -> int:
    return threading.get_ident()


@task
def bad(value: Any = None) -> None:
    raise ValueError(f"broken by {value}")


# Submitting


def test_tasks_run_side_by_side(runs: Recorder) -> None:
    both = threading.Barrier(2)

    @task
    def meet(name: str) -> tuple[str, int]:
        both.wait(20)  # broken, unless the other one is here at the same time
        return name, threading.get_ident()

    @flow
    def run() -> Any:
        futures = [meet.submit("a"), meet.submit(name="b")]
        assert all(isinstance(future, Future) for future in futures)
        return [future.result() for future in futures]

    (a, first), (b, second) = run()
    assert (a, b) == ("a", "b") and len({first, second, threading.get_ident()}) == 3
    assert [(e.name, e.state) for e in runs.run.tasks] == [("meet", "COMPLETED")] * 2


def test_no_more_threads_than_are_allowed(runs: Recorder) -> None:
    @flow
    def run() -> int:
        return len({future.result() for future in [thread_of.submit(n) for n in range(500)]})

    assert run() <= MOST_THREADS
    assert len(runs.run.tasks) == 500


def test_the_context_goes_along_and_stays_apart(runs: Recorder) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    @task
    def inner() -> None:
        print("inner")

    @task
    def outer(name: str) -> str:
        seen = variable.get()
        variable.set(f"changed by {name}")
        print("outer", name)
        progress(0.25)
        inner()
        return seen

    @flow
    def run() -> list[str]:
        variable.set("first")
        one = outer.submit("one")
        variable.set("second")
        two = outer.submit("two")
        found = [one.result(), two.result()]
        assert variable.get() == "second"
        return found

    assert run() == ["first", "second"]
    outers = [entry for entry in runs.run.tasks if entry.name == "outer"]
    assert sorted(entry.logs for entry in outers) == [["outer one"], ["outer two"]]
    assert {entry.progress for entry in outers} == {0.25}
    inners = [entry for entry in runs.run.tasks if entry.name == "inner"]
    assert [entry.logs for entry in inners] == [["inner"]] * 2
    assert current.get() is None


def test_futures_stand_for_their_results(runs: Recorder) -> None:
    @task
    def add(left: int, right: int) -> int:
        return left + right

    @flow
    def run() -> int:
        one = double.submit(1)
        two = add.submit(one, right=one)
        return add.submit(left=two, right=double.submit(two)).result()

    assert run() == 12


def test_a_chain_of_futures_longer_than_there_are_threads(runs: Recorder) -> None:
    @flow
    def run() -> int:
        future: Any = 1
        for _ in range(5 * MOST_THREADS):
            future = plus_one.submit(future)
        result: int = future.result()
        return result

    @task
    def plus_one(value: int) -> int:
        return value + 1

    assert run() == 5 * MOST_THREADS + 1


@pytest.mark.parametrize("limited", [False, True])
def test_more_nested_calls_than_there_are_threads(runs: Recorder, limited: bool) -> None:
    """Were they handed to the pool too, every thread of it would wait for another one."""

    @task(timeout=60 if limited else None)
    def outer(value: int) -> int:
        assert double.map([value]) == [2 * value]
        return double.submit(value).result() + sum(double.map([1, 2]))

    @flow
    def run() -> list[int]:
        return outer.map(range(3 * MOST_THREADS))

    assert run() == [2 * value + 6 for value in range(3 * MOST_THREADS)]


def test_an_async_task_is_awaited_and_a_generator_gone_through(runs: Recorder) -> None:
    @task
    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    @task
    def rows(count: int) -> Iterator[int]:
        yield from range(count)

    @flow
    def run() -> Any:
        return (
            later.submit(1).result(),
            later.map([1, 2]),
            rows.submit(3).result(),
            rows.map([1, 2]),
        )

    expected = (2, [2, 3], [0, 1, 2], [[0], [0, 1]])
    assert run() == expected
    assert {entry.state for entry in runs.run.tasks} == {"COMPLETED"}
    # Also outside a flow, and where an event loop is running.
    alone = later.submit(1), later.map([1, 2]), rows.submit(3), rows.map([1, 2])
    assert (alone[0].result(), alone[1], alone[2].result(), alone[3]) == expected

    async def inside() -> Any:
        return later.submit(1).result(), later.map([1, 2])

    assert asyncio.run(inside()) == expected[:2]


def test_a_task_with_options_keeps_them_in_a_thread(runs: Recorder) -> None:
    errors = [ValueError("once")]

    @task(retries=1, delay=0)
    def flaky() -> str:
        if errors:
            raise errors.pop()
        return "done"

    @task(when=lambda value: value > 1)
    def wanted(value: int) -> int:
        return value

    @flow
    def run() -> Any:
        return flaky.submit().result(), wanted.map([1, 2])

    assert run() == ("done", [None, 2])
    assert [(e.name, e.state, e.attempt) for e in runs.run.tasks][0] == ("flaky", "COMPLETED", 2)
    assert {(e.map_index, str(e.state)) for e in runs.run.tasks[1:]} == {
        (0, "SKIPPED"),
        (1, "COMPLETED"),
    }


def test_a_task_of_an_instance(runs: Recorder) -> None:
    class Store:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        @task
        def times(self, value: int) -> int:
            return value * self.factor

    @flow
    def run() -> Any:
        store = Store(3)
        return store.times(1), store.times.submit(2).result(), store.times.map([3, 4])

    assert run() == (3, 6, [9, 12])
    store = Store(2)
    assert (store.times.run(1), store.times.submit(2).result(), store.times.map([3])) == (2, 4, [6])


# Failures


def test_a_failure_comes_out_where_the_result_is_asked_for(runs: Recorder) -> None:
    @flow
    def run() -> None:
        future = bad.submit("x")
        with pytest.raises(ValueError, match="broken by x") as caught:
            future.result()
        assert any(entry.name == "bad" for entry in caught.traceback)

    run()
    # As for any crucial failure that the flow catches.
    assert (runs.run.state, runs.run.tasks[0].state) == ("FAILED", "FAILED")
    assert runs.run.reason == "crucial task 'bad' failed; the flow went on"


def test_a_crucial_failure_that_nobody_asks_for_fails_the_run(runs: Recorder) -> None:
    @flow
    def run() -> str:
        bad.submit()
        return "value"

    assert run() == "value"
    assert (runs.run.state, runs.run.reason) == (
        "FAILED",
        "crucial task 'bad' failed; the flow went on",
    )


def test_a_failure_that_is_not_crucial_gives_none(runs: Recorder) -> None:
    optional = bad.copy(crucial_pass=False)
    judged = Task(lambda: TaskResult(False, "no"), name="judged", crucial_pass=False)

    @flow
    def run() -> Any:
        return optional.submit().result(), optional.map([1, 2]), judged.submit().result()

    assert run() == (None, [None, None], TaskResult(False, "no"))
    assert runs.run.state == "COMPLETED"


def test_a_result_that_did_not_pass(runs: Recorder) -> None:
    judged = Task(lambda: TaskResult(False, "no"), name="judged")

    @flow
    def run() -> None:
        judged.submit().result()

    with pytest.raises(TaskFailed, match="'judged' did not pass: no"):
        run()
    assert runs.run.state == "FAILED"


def test_a_failed_argument_is_not_called_with(runs: Recorder) -> None:
    @flow
    def run() -> None:
        double.submit(bad.submit("x")).result()

    with pytest.raises(ValueError, match="broken by x"):
        run()
    assert [entry.name for entry in runs.run.tasks] == ["bad"]


def test_what_waits_is_cancelled_when_the_flow_fails(runs: Recorder) -> None:
    go = threading.Event()
    begun = threading.Semaphore(0)

    @task
    def waiting(value: int) -> None:
        begun.release()
        assert go.wait(20)

    futures: list[Future[Any]] = []

    @flow
    def run() -> None:
        futures.extend(waiting.submit(n) for n in range(3 * MOST_THREADS))
        for _ in range(MOST_THREADS):
            begun.acquire()
        # Those under way are waited for: they end once the others are cancelled.
        futures[-1].add_done_callback(lambda _: go.set())
        raise KeyError("the flow's")

    with pytest.raises(KeyError):
        run()
    assert [future.cancelled() for future in futures] == [False] * MOST_THREADS + [True] * (
        2 * MOST_THREADS
    )
    assert [str(entry.state) for entry in runs.run.tasks] == ["COMPLETED"] * MOST_THREADS
    with pytest.raises(CancelledError):
        futures[-1].result()


# The end of the flow


def test_a_flow_waits_for_what_it_submitted(runs: Recorder) -> None:
    go, ended = threading.Event(), []

    @task
    def slow(value: int) -> None:
        assert go.wait(20)
        ended.append(value)

    @flow
    def run() -> str:
        for value in range(3 * MOST_THREADS):
            slow.submit(value)
        threading.Timer(0, go.set).start()
        return "value"

    assert run() == "value"
    assert sorted(ended) == list(range(3 * MOST_THREADS))
    assert {entry.state for entry in runs.run.tasks} == {"COMPLETED"}
    assert not [t for t in threading.enumerate() if t.name.startswith("perfect-pool")]


def test_an_async_flow_waits_without_blocking_its_loop(runs: Recorder) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        beats: list[str] = []

        @task
        def needs_the_loop() -> str:
            async def beat() -> str:
                beats.append("beat")
                return "from the loop"

            return asyncio.run_coroutine_threadsafe(beat(), loop).result(20)

        @flow
        async def run() -> str:
            needs_the_loop.submit()
            return await asyncio.wrap_future(needs_the_loop.submit())

        value = await run()
        assert beats == ["beat"] * 2
        return value

    assert asyncio.run(main()) == "from the loop"
    assert [entry.state for entry in runs.run.tasks] == ["COMPLETED"] * 2


def test_an_async_flow_that_fails_waits_for_what_is_under_way(runs: Recorder) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()

        @task
        def needs_the_loop() -> str:
            loop.call_soon_threadsafe(begun.set)
            return asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "x"), loop).result(20)

        @flow
        async def run() -> None:
            needs_the_loop.submit()
            await begun.wait()
            raise KeyError("the flow's")

        with pytest.raises(KeyError):
            await run()

    asyncio.run(main())
    assert (runs.run.state, runs.run.tasks[0].state) == ("FAILED", "COMPLETED")


def test_a_cancelled_async_flow_does_not_wait(runs: Recorder) -> None:
    go = threading.Event()

    async def main() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        @task
        def stuck() -> None:
            loop.call_soon_threadsafe(begun.set)
            assert go.wait(20)

        @flow
        async def run() -> None:
            stuck.submit()  # the flow is at its end, waiting for this

        running = asyncio.ensure_future(run())
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    (entry,) = runs.run.tasks
    assert (runs.run.state, entry.state, entry.reason) == ("CANCELLED", "CANCELLED", "interrupted")
    go.set()


def test_a_thread_that_outlives_its_flow_may_still_submit(runs: Recorder) -> None:
    go = threading.Event()
    found: list[Any] = []

    @flow
    def run() -> threading.Thread:
        def late() -> None:
            assert go.wait(20)
            found.extend((double.submit(1).result(), double.map([2, 3])))

        thread = threading.Thread(target=propagate(late))
        thread.start()
        double.submit(0)
        return thread

    thread = run()
    go.set()
    thread.join()
    assert found == [2, [4, 6]] and len(runs.run.tasks) == 1


def test_a_thread_of_a_tasks_own_may_submit_while_the_pool_closes() -> None:
    pool = FlowPool()
    first = pool.submit(lambda args, kwargs: threading.get_ident(), (), {})
    first.result()
    pool.close(cancel=False)
    late = pool.submit(lambda args, kwargs: threading.get_ident(), (), {})
    assert late.result() == threading.get_ident()  # nobody else would ever do it


def test_where_no_thread_is_to_be_had(runs: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers._Thread, "start", start)

    @flow
    def run() -> Any:
        assert thread_of.submit().result() == threading.get_ident()
        return double.submit(1).result(), double.map(range(100))

    assert run() == (2, [2 * value for value in range(100)])
    assert len(runs.run.tasks) == 102


def test_two_runs_at_once_have_their_own_threads(runs: Recorder) -> None:
    @flow
    def inner(value: int) -> list[int]:
        return double.map([value, value])

    @task
    def calls_a_flow(value: int) -> list[int]:
        return inner(value)

    @flow
    def outer() -> Any:
        return calls_a_flow.map([1, 2, 3])

    assert outer() == [[2, 2], [4, 4], [6, 6]]
    children = [run for run in runs.runs if run.flow == "inner"]
    parent = next(run for run in runs.runs if run.flow == "outer")
    assert {run.parent for run in children} == {parent.id}
    assert [len(run.tasks) for run in children] == [2, 2, 2] and len(parent.tasks) == 3


# Mapping


def test_each_element_is_a_task_run(runs: Recorder) -> None:
    @task
    def scale(value: int, factor: int, *, offset: int = 0) -> int:
        return value * factor + offset

    @flow
    def run() -> list[int]:
        return scale.map([1, 2, 3], unmapped(10), offset=(5, 6, 7))

    assert run() == [15, 26, 37]
    assert sorted((e.map_index, str(e.state)) for e in runs.run.tasks) == [
        (index, "COMPLETED") for index in range(3)
    ]
    assert scale.map([1, 2, 3], unmapped(10), offset=(5, 6, 7)) == [15, 26, 37]


def test_a_result_to_come_is_mapped_over(runs: Recorder) -> None:
    @task
    def numbers() -> list[int]:
        return [1, 2]

    @flow
    def run() -> list[int]:
        return double.map(numbers.submit())

    assert run() == [2, 4]


def test_a_generator_is_gone_through_as_it_is_needed(runs: Recorder) -> None:
    asked = 0
    ended = itertools.count(1)
    done = 0
    worst = 0

    def source() -> Iterator[int]:
        nonlocal asked, worst
        for value in range(20 * AHEAD):
            asked += 1
            worst = max(worst, asked - done)
            yield value

    @task
    def step(value: int) -> int:
        nonlocal done
        done = next(ended)
        return value

    @flow
    def run() -> list[int]:
        return step.map(source())

    assert run() == list(range(20 * AHEAD))
    assert worst <= AHEAD + MOST_THREADS + 2


def test_elements_and_results_are_not_kept(runs: Recorder) -> None:
    class Big:
        alive: weakref.WeakSet[Any] = weakref.WeakSet()

        def __init__(self) -> None:
            self.alive.add(self)

    most = 0

    @task
    def consume(big: Big) -> None:
        nonlocal most
        most = max(most, len(Big.alive))

    @task
    def produce() -> Big:
        return Big()

    @flow
    def run() -> None:
        consume.map(Big() for _ in range(20 * AHEAD))
        gc.collect()
        assert len(Big.alive) <= MOST_THREADS
        produce.submit().result()
        future = produce.submit()
        future.result()
        del future
        double.map(range(10 * MOST_THREADS))  # the threads have had something else to do since
        gc.collect()
        assert len(Big.alive) == 0

    run()
    assert most <= AHEAD + 2 * MOST_THREADS


def test_the_first_failure_of_a_map_ends_it(runs: Recorder) -> None:
    asked = 0

    def source() -> Iterator[int]:
        nonlocal asked
        for asked in range(100 * AHEAD):
            yield asked

    @task
    def step(value: int) -> int:
        if value == 2:
            raise ValueError(f"broken by {value}")
        return value

    @flow
    def run() -> None:
        step.map(source())

    with pytest.raises(ValueError, match="broken by 2"):
        run()
    assert asked <= 2 + AHEAD + 1
    failed = [entry for entry in runs.run.tasks if entry.state == "FAILED"]
    assert [entry.map_index for entry in failed] == [2]
    assert {str(entry.state) for entry in runs.run.tasks} == {"FAILED", "COMPLETED"}


def test_a_map_within_a_thread_of_the_pool_ends_with_its_first_failure(runs: Recorder) -> None:
    asked: list[int] = []

    @task
    def outer() -> None:
        bad.map(asked.append(number) for number in range(10))

    @flow
    def run() -> None:
        outer.submit().result()

    with pytest.raises(ValueError, match="broken by None"):
        run()
    assert len(asked) == 1


def test_a_source_that_fails_waits_for_what_was_begun(runs: Recorder) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    @flow
    def run() -> None:
        with pytest.raises(OSError, match="disk"):
            double.map(source())
        assert not [entry for entry in runs.run.tasks if entry.state == "RUNNING"]

    run()
    assert runs.run.state == "COMPLETED"


@pytest.mark.parametrize("value", [5, "text", {"a": 1}], ids=repr)
def test_a_wrong_argument_of_map_is_named(runs: Recorder, value: Any) -> None:
    @flow
    def run() -> None:
        double.map(value)

    for attempt in (run, lambda: double.map(value)):
        with pytest.raises(ConfigurationError) as caught:
            attempt()
        assert caught.value.argument == "map argument value of 'double'"
        assert caught.value.value is value
    assert not runs.run.tasks


# Outside a flow


def test_outside_a_flow_a_task_is_called_at_once(runs: Recorder) -> None:
    future = thread_of.submit()
    assert future.done() and future.result() == threading.get_ident()
    assert double.submit(double.submit(2)).result() == 8
    assert set(thread_of.map(range(3))) == {threading.get_ident()}
    with pytest.raises(ValueError, match="broken by 1"):
        bad.map([1, 2])
    assert isinstance(bad.submit("x").exception(), ValueError)
    assert runs.runs == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_in_a_forked_child_a_task_is_called_at_once(runs: Recorder) -> None:
    @flow
    def run() -> bytes:
        double.submit(1).result()  # the pool has threads, which the child has not
        out, into = os.pipe()
        child = os.fork()
        if not child:
            try:
                found = double.submit(2).result(), double.map([3, 4])
                os.write(into, repr(found).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(into)
        with os.fdopen(out, "rb") as file:
            return file.read()

    assert run() == b"(4, [6, 8])"
    assert len(runs.run.tasks) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_may_leave_the_flow() -> None:
    """The pool's threads are not in the child: it must not wait for them."""
    script = """
        import os
        from perfect import configure, flow, task

        configure(mock=True)

        @task
        def double(value):
            return value * 2

        @flow
        def run():
            double.submit(1).result()
            return os.fork()

        child = run()
        if child:
            assert os.waitpid(child, 0)[1] == 0
            print("the child has left")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("the child has left\n", 0), done.stderr


# Tests of users


def test_stubs_and_failures_hold_in_threads(runs: Recorder) -> None:
    @flow
    def run() -> Any:
        return double.submit(1).result(), double.map([1, 2])

    runs.stub(double, 7)
    assert run() == (7, [7, 7])
    runs.stub(double, lambda value: -value)
    assert run() == (-1, [-1, -2])
    runs.fail(double, KeyError("made up"))
    with pytest.raises(KeyError, match="made up"):
        run()


# Ctrl+C: a real process

INTERRUPTED = """
    import asyncio, sys, threading
    from perfect import configure, flow, task
    from perfect.testing import recorder

    configure(mock=True)
    begun, forever = threading.Event(), threading.Event()

    @task
    def stuck(value=None):
        begun.set()
        print("ready", flush=True)
        forever.wait()

    @flow
    def result():
        future = stuck.submit()
        while not future.done():  # as one does that wants to hear the first Ctrl+C in any case
            try:
                future.result(0.1)
            except TimeoutError:
                pass

    @flow
    def end():
        stuck.submit()

    @flow
    def mapped():
        stuck.map([1])

    @flow
    def failed():
        stuck.submit()
        begun.wait()
        raise KeyError("the flow's own")

    @flow
    async def later():
        stuck.submit()

    made = globals()[sys.argv[1]]
    try:
        asyncio.run(made()) if made.is_async else made()
    finally:
        run = recorder().run
        print(run.state, run.tasks[0].state, run.tasks[0].reason, flush=True)
"""


@pytest.mark.parametrize("where", ["result", "end", "mapped", "failed", "later"])
def test_ctrl_c_does_not_wait_for_threads(where: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED), where],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)  # the task never ends
    finally:
        process.kill()
        process.wait()
    assert said == "CANCELLED CANCELLED interrupted\n", errors
    assert "KeyboardInterrupt" in errors and process.returncode == -signal.SIGINT, errors
