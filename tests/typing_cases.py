"""What a type checker is to think of flows and tasks; checked by test_typing.py, never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, assert_type

import perfect
from perfect import (
    CronSchedule,
    Flow,
    IntervalSchedule,
    LogCapture,
    Progress,
    RunInfo,
    StateManager,
    Task,
    TaskCache,
    TaskResult,
    TaskState,
    configure,
    connect,
    current_run,
    flow,
    get_registry,
    listen,
    progress,
    propagate,
    run,
    task,
    unmapped,
    watch_progress,
)
from perfect.outcomes import State, Success
from perfect.sdk import FlowDefinition, TaskDefinition
from perfect.testing import RecordedRun, RecordedTask, Recorder, mock

# Bare and called decorators keep the signature.


@task
def bare(a: int, b: str = "") -> float:
    return a + len(b)


@task()
def called(a: int) -> list[str]:
    return [str(a)]


@task("Given", estimated_time=5, weight=2, crucial_pass=False, description="d")
def named(*items: int, flag: bool) -> None: ...


@task
async def later(a: int) -> bytes:
    return bytes(a)


@task
def rows(count: int) -> Iterator[int]:
    yield from range(count)


@task
def generic_result() -> TaskResult:
    return TaskResult(passed=True, note="fine", table=[{"a": 1}])


def notified(task: object, state: State) -> None: ...


def decided(task: object, old: State, new: State) -> State | None:
    return Success("fine", 1.0) if new.is_failed() else None


@task(
    name="every option",
    description="d",
    estimated_time=5,
    weight=2,
    crucial_pass=False,
    max_retries=3,
    retry_delay=timedelta(minutes=10),
    backoff=2.0,
    jitter=0.1,
    retry_on=(ValueError, OSError),
    when=lambda value: value > 0,
    timeout=timedelta(seconds=5),
    cache=TaskCache("results.json", ttl=timedelta(days=1), key=lambda value: value),
    trigger=lambda states: all(state.is_finished() for state in states),
    state_handlers=[decided],
    on_failure=notified,
)
def everything(value: int) -> float:
    return float(value)


@task(retries=3, delay=0.5, retry_on=lambda error: "again" in str(error), cache=StateManager())
async def everything_later(value: int) -> bytes:
    return bytes(value)


@task(retries=1, retry_on=ValueError, cache=True, timeout=None, delay=timedelta(seconds=1))
def something() -> None: ...


assert_type(everything(1), float)
coroutine_too: Coroutine[Any, Any, bytes] = everything_later(1)
task(retries="3")  # type: ignore[call-overload]
task(retry_delay="5")  # type: ignore[call-overload]
task(retry_on=3)  # type: ignore[call-overload]
task(when=True)  # type: ignore[call-overload]
task(timeout="5")  # type: ignore[call-overload]
task(cache=3)  # type: ignore[call-overload]
task(state_handlers=decided)  # type: ignore[call-overload]
task(on_failure=3)  # type: ignore[call-overload]
Task(len, retries="3")  # type: ignore[arg-type]
everything("x")  # type: ignore[arg-type]

# In threads: what comes of them depends on the definition alone.

assert_type(bare.submit(1), Future[float])
assert_type(bare.submit(1).result(), float)
assert_type(later.submit(1), Future[bytes])
assert_type(later.submit(1).result(), bytes)
assert_type(everything.submit(value=bare.submit(1)), Future[float])  # it stands for its result
assert_type(bare.map([1, 2], unmapped("x")), list[float])
assert_type(later.map(range(3)), list[bytes])
assert_type(everything.map([1]), list[float])
bare.submit(1).no_such  # type: ignore[attr-defined]
wrong: list[str] = bare.map([1])  # type: ignore[assignment]

# Copies keep the signature.

assert_type(bare.copy()(1), float)
assert_type(bare.copy(name="other", retries=3, timeout=None)(a=1, b=""), float)
assert_type(later.copy(max_retries=2).submit(1), Future[bytes])
bare.copy(retries=3)("x")  # type: ignore[arg-type]
bare.copy(retries="3")  # type: ignore[arg-type]
bare.copy(no_such=3)  # type: ignore[call-arg]

assert_type(bare(1), float)
assert_type(bare(a=1, b="x"), float)
assert_type(bare.run(1), float)
assert_type(called(1), list[str])
coroutine: Coroutine[Any, Any, bytes] = later(1)
assert_type(rows(3), Iterator[int])
assert_type(generic_result().to_dict(), dict[str, Any])
assert_type(bare.definition, TaskDefinition)
named(1, 2, flag=True)

bare("x")  # type: ignore[arg-type]
bare()  # type: ignore[call-arg]
bare(1, c=2)  # type: ignore[call-arg]
named(1)  # type: ignore[call-arg]
task(estimated_time="slow")  # type: ignore[call-overload]
task(no_such=1)  # type: ignore[call-overload]


@flow
def plain(source: str, *, limit: int = 5) -> int:
    return limit


@flow()
def empty() -> None: ...


@flow(name="Named", description="d", tags={"a": "b"}, schedule=CronSchedule("* * * * *"))
def full(a: int) -> dict[str, int]:
    return {"a": a}


@flow("Positional", "described", IntervalSchedule(60))
async def asynchronous(a: int) -> str:
    return str(await later(a))


assert_type(plain("x"), int)
assert_type(plain("x", limit=1), int)
assert_type(full(1), dict[str, int])
run_later: Coroutine[Any, Any, str] = asynchronous(1)
assert_type(plain.definition, FlowDefinition)
assert_type(plain.name, str)

plain(1)  # type: ignore[arg-type]
plain("x", 1)  # type: ignore[call-arg]
flow(tags={"a": 1})  # type: ignore[dict-item]
flow(schedule="* * * * *")  # type: ignore[call-overload]


async def awaiting() -> None:
    assert_type(await later(1), bytes)
    assert_type(await asynchronous(1), str)


class Fetch(Task[[str, int], bytes]):
    def run(self, host: str, port: int) -> bytes:
        return host.encode()


assert_type(Fetch()("a", 1), bytes)
assert_type(Fetch(retries=3, retry_delay=1).copy(retries=2)("a", 1), bytes)
assert_type(Fetch().submit("a", 1), Future[bytes])
assert_type(Fetch().map(["a"], [1]), list[bytes])
assert_type(Fetch().run("a", 1), bytes)
Fetch()("a")  # type: ignore[call-arg]
Fetch(retries="3")  # type: ignore[arg-type]


class Steps:
    @task
    def clean(self, rows: int) -> int:
        return rows


assert_type(propagate(bare.run)(1), float)
assert_type(run(plain), Any)
assert_type(run("Named", configuration="release", parameters={"a": 1}), Any)
assert_type(connect(), bool)
assert_type(progress(0.5), None)
assert_type(current_run(), RunInfo | None)
assert_type(configure(mock=True).mock, bool)
assert_type(watch_progress(print), Callable[[], None])
assert_type(get_registry().get_flow("x"), FlowDefinition | None)
assert_type(TaskState("RUNNING").is_terminal, bool)


def told(progress: Progress) -> None:
    assert_type(progress.percent, int)


watch_progress(told)

with LogCapture(print) as capture:
    assert_type(capture, LogCapture)

with mock() as recorder:
    assert_type(recorder, Recorder)
    assert_type(recorder.run, RecordedRun)
    assert_type(recorder.runs, list[RecordedRun])
    assert_type(recorder.run.task("x"), RecordedTask)
    assert_type(recorder.run.task("x").attempts, list[dict[str, Any]])
    assert_type(recorder.run.task("x").map_index, int | None)
    recorder.stub(bare, 3)
    recorder.fail("x", ValueError("x"))

assert_type(perfect.__version__, str)
listen(concurrency=2)


def registered(made: Flow[..., Any], step: Task[..., Any]) -> None: ...


registered(plain, bare)
registered(bare, plain)  # type: ignore[arg-type]


def of_a_graph() -> None:
    """A parameter goes wherever a value goes; `perfect.core.Parameter` says Any to type checkers."""
    from perfect.core import Flow as GraphFlow
    from perfect.core import Parameter, State

    with GraphFlow("typed") as graph:
        assert_type(bare(Parameter("a", default=1)), float)
    assert_type(graph.run(parameters={"a": 2}), State)
