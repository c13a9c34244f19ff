"""What a type checker is to think of flows and tasks; checked by test_typing.py, never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any, assert_type

import perfect
from perfect import (
    CronSchedule,
    Flow,
    IntervalSchedule,
    LogCapture,
    Progress,
    Task,
    TaskResult,
    TaskState,
    configure,
    connect,
    flow,
    get_registry,
    listen,
    progress,
    propagate,
    run,
    task,
    watch_progress,
)
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
Fetch()("a")  # type: ignore[call-arg]


class Steps:
    @task
    def clean(self, rows: int) -> int:
        return rows


assert_type(propagate(bare.run)(1), float)
assert_type(run(plain), Any)
assert_type(run("Named", configuration="release", parameters={"a": 1}), Any)
assert_type(connect(), bool)
assert_type(progress(0.5), None)
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
    recorder.stub(bare, 3)
    recorder.fail("x", ValueError("x"))

assert_type(perfect.__version__, str)
listen(concurrency=2)


def registered(made: Flow[..., Any], step: Task[..., Any]) -> None: ...


registered(plain, bare)
registered(bare, plain)  # type: ignore[arg-type]
