"""Running graphs: order, retries, mapping, memory, interruptions, executors that break."""

from __future__ import annotations

import contextvars
import gc
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from perfect.caching import TaskCache
from perfect.context import current
from perfect.core import (
    Executor,
    Flow,
    FlowRunner,
    LocalExecutor,
    Parameter,
    State,
    Task,
    TaskRunner,
    ThreadExecutor,
    task,
    triggers,
    unmapped,
)
from perfect.definitions import TaskResult
from perfect.errors import (
    ConfigurationError,
    GraphError,
    TaskFailed,
    TaskTimeout,
    TriggerNotMet,
)
from perfect.graph.executors.base import Pool, Work
from perfect.graph.graph import Graph
from perfect.graph.runner import GraphRun
from perfect.signals import Terminated
from perfect.states import TaskState
from perfect.store import StateManager
from perfect.testing import Recorder

EXECUTORS = [LocalExecutor(), ThreadExecutor(4)]


@pytest.fixture(params=EXECUTORS, ids=["local", "thread"])
def executor(request: pytest.FixtureRequest) -> Executor:
    made: Executor = request.param
    return made


@task
def same(value: Any) -> Any:
    return value


@task
def plus(x: Any, y: Any = 1) -> Any:
    return x + y


@task
def total(values: Any) -> Any:
    return sum(values)


@task
def breaks(*args: Any) -> Any:
    raise ValueError("broken")


def failing(times: int, **options: Any) -> Task[..., Any]:
    """A task that fails so often before it returns what it is given."""
    calls: list[Any] = []

    @task(**{"retries": times, "delay": 0.001, "jitter": 0, **options})
    def flaky(value: Any = None) -> Any:
        calls.append(value)
        if calls.count(value) <= times:
            raise ValueError(f"attempt {calls.count(value)}")
        return value

    flaky.__dict__["calls"] = calls
    return flaky


def own_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("perfect-thread")]


# --- order and results ---------------------------------------------------------------------------


def test_a_diamond(executor: Executor) -> None:
    with Flow("diamond") as flow:
        top = same(1)
        left, right = plus(top), plus(top, 10)
        bottom = total([left, right, top])

    state = FlowRunner(flow).run(executor=executor)

    assert state.is_successful()
    assert state.result[bottom].result == 14
    assert list(state.result) == flow.tasks
    assert own_threads() == []


def test_tasks_that_wait_for_each_other_in_no_way_run_side_by_side() -> None:
    together = threading.Barrier(3)

    @task
    def meets(number: int) -> int:
        together.wait(20)
        return number

    with Flow("side by side") as flow:
        result = total([meets(number) for number in range(3)])

    assert FlowRunner(flow).run(executor=ThreadExecutor(3)).result[result].result == 3


def test_no_more_than_max_workers_run_at_once() -> None:
    lock, running, most = threading.Lock(), 0, 0
    both = threading.Barrier(2)

    @task
    def counted(number: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(20)
        with lock:
            running -= 1
        both.wait(20)

    with Flow("two at once") as flow:
        counted.map(range(6))

    assert FlowRunner(flow).run(executor=ThreadExecutor(2)).is_successful()
    assert most == 2


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "4", True])
def test_max_workers_is_a_whole_number(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_workers"):
        ThreadExecutor(wrong)


def test_the_callers_context_holds_in_the_tasks_and_theirs_stays_theirs(
    executor: Executor,
) -> None:
    setting: contextvars.ContextVar[str] = contextvars.ContextVar("setting", default="unset")

    @task
    def reads(number: Any) -> str:
        value = setting.get()
        if isinstance(executor, ThreadExecutor):
            setting.set(f"of task {number}")
        return value

    token = setting.set("caller's")
    with Flow("context") as flow:
        result = reads.map(range(20))
        alone = reads(reads(reads(result)))
    state = FlowRunner(flow).run(executor=executor)
    assert setting.get() == "caller's"
    setting.reset(token)

    assert state.result[result].result == ["caller's"] * 20
    assert state.result[alone].result == "caller's"


def test_async_tasks_generators_and_subclasses(executor: Executor) -> None:
    @task
    async def double(x: int) -> int:
        return 2 * x

    @task
    def numbers(count: int) -> Iterator[int]:
        yield from range(count)

    class Times(Task[..., int]):
        def __init__(self, factor: int, **options: Any) -> None:
            self.factor = factor
            super().__init__(**options)

        def run(self, x: int) -> int:
            return self.factor * x

    with Flow("kinds") as flow:
        rows = numbers(double(2))
        result = total(Times(10).map(rows))

    state = FlowRunner(flow).run(executor=executor)
    assert state.result[rows].result == [0, 1, 2, 3]
    assert state.result[result].result == 60


# --- failures --------------------------------------------------------------------------------------


def test_a_failure_keeps_what_comes_after_it_from_running_and_nothing_else(
    executor: Executor,
) -> None:
    with Flow("failure") as flow:
        bad = breaks()
        after = same(bad)
        far = plus(after, same(1))
        other = same("other")

    state = FlowRunner(flow).run(executor=executor)

    assert state.is_failed()
    assert state.message == "task 'plus' was not run; 'breaks' failed: ValueError: broken"
    found = {node: state.result[node] for node in flow.tasks}
    assert isinstance(found[bad].result, ValueError)
    assert [found[node].is_trigger_failed() for node in (bad, after, far, other)] == [
        *(False, True, True, False)
    ]
    assert isinstance(found[after].result, TriggerNotMet)
    assert found[after].message == "not run: 'breaks' before it failed"
    assert found[far].message == "not run: 'same' before it was not run"
    assert found[other].result == "other"
    assert own_threads() == []


def test_several_failures_are_counted_and_those_that_ran_are_named_first(
    executor: Executor,
) -> None:
    with Flow("failures") as flow:
        unrun = same(breaks())
        after = same([unrun, breaks(), breaks()])
        breaks()

    state = FlowRunner(flow).run(executor=executor)

    assert state.result[after].message == "not run: 'breaks' before it failed and 2 more"
    assert state.message.startswith("task 'same' and 1 more was not run; 'breaks' failed")


def test_a_task_that_is_not_crucial_may_fail(executor: Executor) -> None:
    lenient = breaks.copy(crucial_pass=False)

    @task(crucial_pass=False)
    def unsure() -> TaskResult:
        return TaskResult(False, "so-so")

    @task(crucial_pass=False)
    def blames_another() -> None:
        raise TaskFailed("another", TaskResult(False))

    with Flow("lenient") as flow:
        results = same([lenient(), unsure(), blames_another()])

    state = FlowRunner(flow).run(executor=executor)

    assert state.is_successful()
    nothing, shaky, blamed = state.result[results].result
    assert (nothing, shaky, blamed) == (None, TaskResult(False, "so-so"), None)
    assert state.result[flow.tasks[0]].is_failed()
    assert isinstance(state.result[unsure].result, TaskFailed)


def test_a_task_after_a_crucial_failure_fails_the_flow_though_it_is_not_crucial_itself() -> None:
    with Flow("lenient end") as flow:
        end = same.copy(crucial_pass=False)(breaks())

    state = FlowRunner(flow).run()

    assert state.result[end].is_trigger_failed()
    assert state.is_failed()


def test_a_task_result_that_did_not_pass_is_a_failure(executor: Executor) -> None:
    @task
    def checks(passed: bool) -> TaskResult:
        return TaskResult(passed, "checked")

    with Flow("checks") as flow:
        good, bad = checks(True), checks(False)
        after = same(good)

    state = FlowRunner(flow).run(executor=executor)

    assert state.result[after].result == TaskResult(True, "checked")
    assert isinstance(state.result[bad].result, TaskFailed)
    assert state.is_failed()


def test_sys_exit_in_a_task_fails_the_task(executor: Executor) -> None:
    @task
    def leaves() -> None:
        raise SystemExit(3)

    with Flow("exit") as flow:
        left = leaves()
        other = same(1)

    state = FlowRunner(flow).run(executor=executor)
    assert isinstance(state.result[left].result, SystemExit)
    assert state.result[other].is_successful()


def test_timeouts(executor: Executor) -> None:
    release = threading.Event()

    @task(timeout=timedelta(milliseconds=20))
    def hangs() -> None:
        release.wait(30)

    with Flow("timeout") as flow:
        hung = hangs()
    state = FlowRunner(flow).run(executor=executor)
    release.set()

    assert isinstance(state.result[hung].result, TaskTimeout)


# --- retries, when, cache ----------------------------------------------------------------------------


def test_retries(executor: Executor) -> None:
    good, bad = failing(2), failing(2, retries=1)
    with Flow("retries") as flow:
        result, failed = good("x"), bad("y")

    state = FlowRunner(flow).run(executor=executor)

    assert (state.result[result].result, good.__dict__["calls"]) == ("x", ["x"] * 3)
    assert state.result[failed].message == "ValueError: attempt 2"
    assert bad.__dict__["calls"] == ["y"] * 2


def test_a_pause_holds_no_slot(executor: Executor) -> None:
    flaky = failing(1, delay=0.05)
    order: list[str] = []

    @task
    def note(text: str) -> None:
        order.append(text)
        flaky.__dict__["calls"].append(text)

    with Flow("pause") as flow:
        again = flaky("flaky")
        note("again", upstream_tasks=[again])
        note("meanwhile", upstream_tasks=[note("first")])

    one_at_a_time = ThreadExecutor(1) if isinstance(executor, ThreadExecutor) else executor
    assert FlowRunner(flow).run(executor=one_at_a_time).is_successful()
    assert order == ["first", "meanwhile", "again"]


def test_a_pause_that_is_over_comes_before_what_has_not_begun(executor: Executor) -> None:
    failed = threading.Event()
    order: list[Any] = []

    @task(retries=1, delay=0.001, jitter=0)
    def flaky() -> None:
        order.append("flaky")
        if not failed.is_set():
            failed.set()
            raise ValueError

    @task
    def other(number: int) -> None:
        failed.wait(20)
        time.sleep(0.001)  # at the latest the second one begins after the pause
        order.append(number)

    with Flow("in time") as flow:
        flaky()
        for number in range(200):
            other(number)

    one_at_a_time = ThreadExecutor(1) if isinstance(executor, ThreadExecutor) else executor
    assert FlowRunner(flow).run(executor=one_at_a_time).is_successful()
    assert order.count("flaky") == 2
    assert order[-1] != "flaky"  # not after everything that was handed over before


def test_many_pauses_at_once_take_the_time_of_one() -> None:
    clock = threading.Barrier(64)

    @task(retries=1, delay=0.01, jitter=0)
    def flaky(number: int, attempts: dict[int, int]) -> int:
        attempts[number] = attempts.get(number, 0) + 1
        if attempts[number] == 1:
            raise ValueError
        clock.wait(20)  # passes only when all second attempts are under way together
        return number

    with Flow("pauses") as flow:
        result = flaky.map(range(64), unmapped({}))

    state = FlowRunner(flow).run(executor=ThreadExecutor(64))
    assert state.result[result].result == list(range(64))


def test_when(executor: Executor) -> None:
    @task(when=lambda value: value > 1)
    def large(value: int) -> int:
        return value

    with Flow("when") as flow:
        small, big = same(1), same(2)
        skipped, kept = large(small), large(big)
        untested = large(5)  # there is no upstream result
        chained = large(skipped)
        result = same([skipped, kept])

    state = FlowRunner(flow).run(executor=executor)

    assert state.is_successful()
    assert [state.result[node].is_skipped() for node in (skipped, kept, untested, chained)] == [
        *(True, False, True, True)
    ]
    assert state.result[result].result == [None, 2]


def test_a_predicate_that_raises_fails_its_task(executor: Executor) -> None:
    with Flow("when raises") as flow:
        result = same.copy(when=lambda value: value["x"])(same(1))

    state = FlowRunner(flow).run(executor=executor)
    assert isinstance(state.result[result].result, TypeError)


def costly_body(value: Any) -> Any:
    costly_calls.append(value)
    return [value]


costly_calls: list[Any] = []


def test_cache(executor: Executor) -> None:
    costly_calls.clear()
    costly = Task(costly_body, cache=TaskCache(StateManager(), key=str))

    with Flow("cache") as flow:
        result = costly.map(same([1, 2, 1]))

    first = FlowRunner(flow).run()
    second = FlowRunner(flow).run(executor=executor)

    assert costly_calls == [1, 2]
    assert first.result[result].result == second.result[result].result == [[1], [2], [1]]
    assert all(state.is_cached() for state in second.result[result].map_states)


# --- mapping -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: plus.map([1, 2, 3]), [2, 3, 4]),
        (lambda: plus.map(range(3), [10, 20, 30]), [10, 21, 32]),
        (lambda: plus.map(x=(1, 2), y=unmapped(5)), [6, 7]),
        (lambda: plus.map(same([1, 2]), unmapped(same(5))), [6, 7]),
        (lambda: plus.map(plus.map(plus.map([0, 1]))), [3, 4]),
        (lambda: plus.map(plus.map([1, 2]), plus.map([3, 4])), [6, 8]),
        (lambda: plus.map([same(1), same(2)]), [2, 3]),
        (lambda: plus.map(same({"rows": [1]})["rows"]), [2]),
        (lambda: same.map([]), []),
        (lambda: plus.map(same.map([])), []),
        (lambda: total(plus.map([1, 2])), 5),
        (lambda: same.map(same({1: 2}.items())), [(1, 2)]),
        (lambda: plus.map(same(iter([1, 2]))), [2, 3]),
        (lambda: plus.map(number for number in range(3)), [1, 2, 3]),
        (lambda: same(plus.map([1, 2])[1]), 3),
        (lambda: same.map([[1, 2], {3: 4}]), [[1, 2], {3: 4}]),
    ],
)
def test_mapping(executor: Executor, build: Callable[[], Any], expected: Any) -> None:
    with Flow("mapped") as flow:
        result = build()

    state = FlowRunner(flow).run(executor=executor)

    assert state.result[result].result == expected
    if result.mapped:
        assert state.result[result].is_mapped()
        assert [one.result for one in state.result[result].map_states] == expected


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: plus.map([1, 2], [1]), "fewer elements"),
        (lambda: plus.map(same([1]), same([1, 2])), "fewer elements"),
        (lambda: plus.map(same(5)), "not a row of elements"),
        (lambda: plus.map(same({1: 2})), "not a row of elements"),
        (lambda: plus.map("text"), "not a row of elements"),
    ],
)
def test_what_can_not_be_mapped_over_fails_the_task(build: Callable[[], Any], message: str) -> None:
    with Flow("unmappable") as flow:
        result = build()
        after = same(result)

    state = FlowRunner(flow).run()

    assert state.is_failed()
    assert message in state.result[result].message
    assert state.result[after].is_trigger_failed()


def test_failures_skips_and_retries_are_each_elements_own(executor: Executor) -> None:
    @task
    def picky(x: int) -> int:
        if x == 1:
            raise ValueError("one")
        return x

    @task(when=lambda x: x != 2)
    def wanted(x: int) -> int:
        return x

    flaky = failing(1)
    with Flow("elements") as flow:
        first = picky.map(range(4))
        second = wanted.map(first)
        third = wanted.map(second)
        fourth = flaky.map(third)
        reduced = same(fourth)
        always = same.copy(trigger=triggers.always_run, name="always")(fourth)

    state = FlowRunner(flow).run(executor=executor)

    def kinds(node: Any) -> list[str]:
        return [one.type for one in state.result[node].map_states]

    assert kinds(first) == ["Success", "Failed", "Success", "Success"]
    assert kinds(second) == ["Success", "TriggerFailed", "Skipped", "Success"]
    assert kinds(third) == ["Success", "TriggerFailed", "Skipped", "Success"]
    assert kinds(fourth) == ["Success", "TriggerFailed", "Success", "Success"]
    assert [one.result for one in state.result[fourth].map_states if one.is_successful()] == [
        *(0, None, 3)
    ]
    assert state.result[first].message == "1 of 4 elements failed: ValueError: one"
    assert state.result[reduced].is_trigger_failed()
    given = state.result[always].result
    assert [given[0], *given[2:]] == [0, None, 3]
    assert isinstance(given[1], TriggerNotMet)


def test_elements_that_are_not_crucial_give_none(executor: Executor) -> None:
    @task(crucial_pass=False)
    def picky(x: int) -> Any:
        if x == 1:
            raise ValueError
        return TaskResult(False, "two") if x == 2 else x

    with Flow("lenient elements") as flow:
        result = same(picky.map(range(4)))

    state = FlowRunner(flow).run(executor=executor)
    assert state.is_successful()
    assert state.result[result].result == [0, None, TaskResult(False, "two"), 3]


def test_triggers_of_elements_see_the_states_before_them(executor: Executor) -> None:
    seen: list[list[str]] = []

    def note(states: Any) -> bool:
        seen.append([state.type for state in states])
        return any(state.is_failed() for state in states)

    @task
    def picky(x: int) -> int:
        return 1 // x

    with Flow("element triggers") as flow:
        first = picky.map([0, 1])
        second = same.copy(trigger=note).map(first, upstream_tasks=[same("other")])

    state = FlowRunner(flow).run(executor=executor)

    assert sorted(seen) == [["Failed", "Success"], ["Success", "Success"]]
    states = state.result[second].map_states
    assert isinstance(states[0].result, ZeroDivisionError)
    assert [one.type for one in states] == ["Success", "TriggerFailed"]


def test_an_upstream_that_is_not_mapped_stops_all_elements(executor: Executor) -> None:
    with Flow("stopped") as flow:
        result = plus.map(same.map([1, 2]), unmapped(breaks()))
        of_broken = plus.map(breaks())

    state = FlowRunner(flow).run(executor=executor)
    assert state.result[result].is_trigger_failed()
    assert state.result[of_broken].is_trigger_failed()


def test_a_hundred_thousand_elements() -> None:
    with Flow("huge") as flow:
        result = total(plus.map(range(100_000)))

    for chosen in EXECUTORS:
        assert FlowRunner(flow).run(executor=chosen).result[result].result == 5_000_050_000


# --- memory and size -----------------------------------------------------------------------------------


class Large:
    """A result that can be seen to be let go."""

    def __init__(self, living: weakref.WeakSet[Large]) -> None:
        living.add(self)


def test_results_are_let_go_as_soon_as_nothing_needs_them(executor: Executor) -> None:
    living: weakref.WeakSet[Large] = weakref.WeakSet()
    most: list[int] = []

    @task
    def makes(before: Any = None) -> Large:
        gc.collect()
        most.append(len(living))
        return Large(living)

    with Flow("chain") as flow:
        node = makes()
        for _ in range(20):
            node = makes(node)
        kept = node
        makes(kept)

    state = FlowRunner(flow).run(executor=executor, return_tasks=[kept])

    # One is the argument, and the one before it may still be on its way out of a thread.
    assert max(most) <= 2
    gc.collect()
    assert len(living) == 1
    assert isinstance(state.result[kept].result, Large)
    assert list(state.result) == [kept]
    assert flow.tasks[0] not in state.result


def test_results_of_elements_are_let_go(executor: Executor) -> None:
    living: weakref.WeakSet[Large] = weakref.WeakSet()
    seen: list[int] = []

    @task
    def makes(number: int) -> Large:
        return Large(living)

    @task
    def counts(rows: Any) -> int:
        return len(rows)

    @task
    def looks(count: int) -> int:
        gc.collect()
        seen.append(len(living))
        return count

    with Flow("elements") as flow:
        result = looks(counts(makes.map(range(10))))

    state = FlowRunner(flow).run(executor=executor, return_tasks=[result])

    assert (seen, state.result[result].result) == ([0], 10)


def test_what_has_ended_is_not_held_on_to_while_another_task_is_waited_for() -> None:
    living: weakref.WeakSet[Large] = weakref.WeakSet()
    made = threading.Event()

    @task
    def makes() -> Large:
        large = Large(living)
        made.set()
        return large

    @task
    def watches() -> int:
        made.wait(20)
        deadline = time.monotonic() + 20
        while len(living) and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.001)
        return len(living)

    with Flow("held") as flow:
        result = watches()
        same.copy(name="count")(plus.copy(name="uses")([makes()], []))

    state = FlowRunner(flow).run(executor=ThreadExecutor(2), return_tasks=[result])
    assert state.result[result].result == 0


def test_what_nobody_waits_for_is_let_go_at_once(executor: Executor) -> None:
    living: weakref.WeakSet[Large] = weakref.WeakSet()

    @task
    def makes(number: int) -> Large:
        return Large(living)

    with Flow("dropped") as flow:
        for number in range(5):
            makes(number)
        makes.map(range(5))

    state = FlowRunner(flow).run(executor=executor, return_tasks=[])
    assert state.is_successful()
    gc.collect()
    assert len(living) == 0


def chain(count: int) -> Flow:
    with Flow("chain") as flow:
        node = plus(0)
        for _ in range(count - 1):
            node = plus(node)
    return flow


def fan(count: int) -> Flow:
    with Flow("fan") as flow:
        total([plus(number) for number in range(count - 1)])
    return flow


@pytest.mark.parametrize("build", [chain, fan])
def test_a_hundred_thousand_nodes(build: Callable[[int], Flow]) -> None:
    count = 100_000
    flow = build(count)
    expected = count if build is chain else (count - 1) * count // 2

    for chosen in EXECUTORS:
        state = FlowRunner(flow).run(executor=chosen)
        assert state.result[flow.tasks[-1]].result == expected


@pytest.mark.parametrize("build", [chain, fan])
def test_a_node_takes_less_than_a_kibibyte(build: Callable[[int], Flow]) -> None:
    """With its arguments, its place in the plan, its state and its result."""
    build(100)
    gc.collect()
    tracemalloc.start()
    try:
        state = FlowRunner(build(20_000)).run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert state.is_successful()
    assert peak / 20_000 < 1024


def test_fan_in_by_edges_is_linear() -> None:
    """The work, counted in lines that Python runs, doubles with the edges."""
    import sys

    def lines(count: int) -> int:
        flow, counted = Flow("edges"), 0
        sink = flow.graph.add(same)
        sources = [flow.graph.add(same) for _ in range(count)]

        def trace(frame: Any, event: str, argument: Any) -> Any:
            nonlocal counted
            counted += 1
            return trace

        sys.settrace(trace)
        try:
            for source in sources:
                flow.graph.connect(source, sink)
        finally:
            sys.settrace(None)
        assert isinstance(sink.after, dict)  # which looks nothing up one by one
        return counted

    assert lines(400) < 2.2 * lines(200)


def test_two_runs_of_one_flow_at_once(executor: Executor) -> None:
    both = threading.Barrier(2)

    @task
    def meets(x: int) -> int:
        both.wait(20)
        return x

    with Flow("twice") as flow:
        x = Parameter("x")
        result = plus(meets(x), x)
    found: dict[int, Any] = {}

    def run(number: int) -> None:
        found[number] = FlowRunner(flow).run({"x": number}, executor).result[result].result

    threads = [threading.Thread(target=run, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {1: 2, 2: 4}


def test_what_is_added_while_it_runs_is_run_the_next_time(executor: Executor) -> None:
    flow = Flow("grows")

    @task
    def adds() -> int:
        flow.graph.use(same, ("added",), {})
        return 1

    with flow:
        plus(adds())

    state = FlowRunner(flow).run(executor=executor)
    assert (state.is_successful(), len(state.result), len(flow.tasks)) == (True, 2, 3)
    assert flow.tasks[2] not in state.result
    assert len(FlowRunner(flow).run().result) == 3


# --- being stopped -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
def test_an_interruption_cancels_what_was_not_run_and_tells_it(
    perfect_mock: Recorder, kind: type[BaseException]
) -> None:
    @task
    def interrupts() -> None:
        raise kind

    @task(retries=3, retry_delay=60)
    def pauses() -> None:
        raise ValueError

    with Flow("interrupted") as flow:
        same("before")
        pauses()
        same.map(["element", interrupts()])
        same("beside")

    with pytest.raises(kind):
        flow.run()

    run = perfect_mock.run
    assert run.state is TaskState.CANCELLED
    assert [(entry.name, entry.state.value) for entry in run.tasks] == [
        ("same", "COMPLETED"),
        ("pauses", "CANCELLED"),
        ("interrupts", "CANCELLED"),
        ("same", "CANCELLED"),
        (
            ("same", "COMPLETED")
            if run.tasks[4].state is TaskState.COMPLETED
            else ("same", "CANCELLED")
        ),
    ]
    assert len(run.tasks) == 5
    assert current.get() is None


def test_an_interruption_of_the_thread_that_waits() -> None:
    begun, release = threading.Event(), threading.Event()
    done: list[int] = []

    @task
    def works(number: int) -> int:
        begun.set()
        release.wait(20)
        done.append(number)
        return number

    class Interrupted(ThreadExecutor):
        def start(self) -> Pool:
            pool = super().start()

            def wait(timeout: float | None) -> Iterable[Work]:
                begun.wait(20)
                raise KeyboardInterrupt

            pool.wait = wait  # type: ignore[method-assign]
            return pool

    graph = Graph()
    for number in range(10):
        graph.use(works, (number,), {})
    run = GraphRun(graph, executor=Interrupted(2))

    with pytest.raises(KeyboardInterrupt):
        run.run()

    assert [state.type for state in run.states if state is not None] == ["Cancelled"] * 10
    assert {state.message for state in run.states if state is not None} == {"interrupted"}
    threads = [one for one in threading.enumerate() if one.name.startswith("perfect-thread")]
    release.set()
    for thread in threads:
        thread.join(20)
    assert len(done) <= 2  # those that were under way; nothing was begun after it
    assert own_threads() == []


def fail_fast(build: Callable[[], Any], executor: Executor) -> GraphRun:
    with Flow("fail fast") as flow:
        build()
    run = GraphRun(flow.graph, executor=executor, fail_fast=True)
    run.run()
    return run


def test_fail_fast_begins_nothing_more_and_waits_for_what_runs() -> None:
    begun: list[Any] = []
    both = threading.Barrier(2)

    @task
    def slow() -> str:
        both.wait(20)
        time.sleep(0.02)  # outlasts the failure
        begun.append("slow")
        return "done"

    @task
    def fails() -> None:
        both.wait(20)
        raise ValueError("first")

    @task
    def other(number: int) -> None:
        begun.append(number)
        time.sleep(
            0.001
        )  # lets the others go on; else a thread does hundreds before it is interrupted

    def build() -> None:
        same(slow())
        fails()
        for number in range(100):
            other(number)

    run = fail_fast(build, ThreadExecutor(2))
    kinds = [state.type for state in run.states if state is not None]

    assert run.failure is not None and run.failure.name == "fails"
    assert run.states[0] is not None and run.states[0].result == "done"
    assert kinds[1] == "Cancelled"  # what waited for the one that ran to its end
    assert "slow" in begun
    started = [one for one in begun if one != "slow"]
    assert kinds.count("Success") == 1 + len(started)
    assert len(started) <= 5  # a thread may have had one or two in hand
    assert {
        state.message for state in run.states if state is not None and state.is_cancelled()
    } == {"not started: 'fails' had failed"}
    assert own_threads() == []


def test_fail_fast_gives_up_pauses_and_elements(executor: Executor) -> None:
    pausing = threading.Event()

    @task(retries=5, retry_delay=60)
    def pauses() -> None:
        pausing.set()
        raise ValueError

    @task
    def element(number: int) -> int:
        pausing.wait(20)
        if number == 1:
            raise ValueError("element")
        return number

    def build() -> None:
        pauses()
        same(element.map(range(50)))

    run = fail_fast(build, executor)

    assert run.failure is not None and run.failure.name == "element"
    assert [state.type for state in run.states if state is not None] == [
        *("Cancelled", "Failed", "Cancelled")
    ]
    elements = run.states[1].map_states  # type: ignore[union-attr]
    assert elements[1].is_failed()
    assert elements[-1].is_cancelled()


class Changes(list[tuple[str, str]]):
    """A state handler that keeps what it is told."""

    def __call__(self, subject: Any, old: State, new: State) -> None:
        self.append((old.type, new.type))


def test_elements_that_wait_are_cancelled_with_what_they_had_come_to(executor: Executor) -> None:
    told = Changes()

    @task
    def fails() -> None:
        raise ValueError

    @task(state_handlers=[told], retries=1, retry_delay=60)
    def pauses(number: int) -> None:
        raise ValueError

    def build() -> None:
        pauses.map([1, 2])
        fails(upstream_tasks=[same(0)])

    run = fail_fast(build, executor)
    whole = run.states[0]

    assert whole is not None and whole.is_cancelled()
    assert whole.message == "2 of 2 elements cancelled: not started: 'fails' had failed"
    assert sorted(told) == [
        ("Pending", "Cancelled"),
        *[("Pending", "Running")] * 2,
        *[("Retrying", "Cancelled")] * 2,
        *[("Running", "Retrying")] * 2,
    ]


def test_a_failure_that_is_not_crucial_stops_nothing() -> None:
    run = fail_fast(lambda: same(breaks.copy(crucial_pass=False)()), LocalExecutor())
    assert run.failure is None
    assert [state.type for state in run.states if state is not None] == ["Failed", "Success"]


# --- executors that break --------------------------------------------------------------------------------


class Breaking(ThreadExecutor):
    """An executor that breaks down at one of its methods."""

    def __init__(self, where: str, after: int = 0) -> None:
        super().__init__(2)
        self.where, self.left = where, after

    def start(self) -> Pool:
        if self.where == "start":
            raise OSError("no workers")
        pool = super().start()
        whole = getattr(pool, self.where)

        def broken(*args: Any, **kwargs: Any) -> Any:
            if not self.left:
                if self.where == "close":
                    whole(*args, **kwargs)
                raise OSError("no workers")
            self.left -= 1
            return whole(*args, **kwargs)

        setattr(pool, self.where, broken)
        return pool


@pytest.mark.parametrize(
    ("where", "after"), [("start", 0), ("submit", 0), ("submit", 3), ("wait", 0), ("wait", 1)]
)
def test_an_executor_that_breaks_fails_the_run_and_leaves_nothing_behind(
    perfect_mock: Recorder, where: str, after: int
) -> None:
    with Flow("breaking") as flow:
        rows = [same(number) for number in range(5)]
        total([same(row) for row in rows])

    with pytest.raises(OSError, match="no workers"):
        flow.run(executor=Breaking(where, after))

    run = perfect_mock.run
    assert run.state is TaskState.FAILED
    assert run.error is not None and run.error["message"] == "no workers"
    assert len(run.tasks) == 11
    assert all(entry.state.is_terminal for entry in run.tasks)
    assert run.tasks[-1].state is TaskState.CANCELLED
    assert own_threads() == []


def test_what_is_called_at_the_end_of_a_node_may_raise() -> None:
    graph = Graph()
    for number in range(3):
        graph.use(same, (number,), {})

    def settled(node: Any, state: State) -> None:
        raise OSError("disk full")

    run = GraphRun(graph, executor=ThreadExecutor(2), settled=settled)

    with pytest.raises(OSError, match="disk full"):
        run.run()
    # The one at whose end it was raised, and those that had not ended.
    assert sorted(state.type for state in run.states if state is not None) == [
        *("Cancelled", "Cancelled", "Success")
    ]
    assert own_threads() == []


# --- alone -------------------------------------------------------------------------------------------------


def test_task_runner() -> None:
    flaky = failing(2)
    assert TaskRunner(flaky).run("x").result == "x"
    assert TaskRunner(breaks).run().is_failed()
    picky = same.copy(when=lambda value: value > 1)
    assert TaskRunner(picky).run(1).is_skipped()  # as called eagerly: the first argument is tested
    assert TaskRunner(picky).run(value=2).result == 2
    with pytest.raises(GraphError, match="argument 'x' is missing"):
        TaskRunner(plus).run()
