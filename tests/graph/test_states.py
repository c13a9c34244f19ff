"""States of tasks and flows, and who is told of their changes."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from perfect.core import (
    Cached,
    Cancelled,
    Executor,
    Failed,
    Finished,
    Flow,
    FlowRunner,
    LocalExecutor,
    Mapped,
    Pending,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    State,
    Success,
    ThreadExecutor,
    TriggerFailed,
    task,
    triggers,
)
from perfect.states import TaskState
from perfect.testing import Recorder


@pytest.fixture(params=[LocalExecutor(), ThreadExecutor(4)], ids=["local", "thread"])
def executor(request: pytest.FixtureRequest) -> Executor:
    made: Executor = request.param
    return made


KINDS: dict[type[State], set[str]] = {
    Pending: {"pending"},
    Scheduled: {"pending", "scheduled"},
    Retrying: {"pending", "scheduled", "retrying"},
    Running: {"running"},
    Finished: {"finished"},
    Success: {"finished", "successful"},
    Cached: {"finished", "successful", "cached"},
    Mapped: {"finished", "successful", "mapped"},
    Skipped: {"finished", "successful", "skipped"},
    Failed: {"finished", "failed"},
    TriggerFailed: {"finished", "failed", "trigger_failed"},
    Cancelled: {"finished", "cancelled"},
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_kinds(kind: type[State]) -> None:
    state = kind("why", 5)
    names = {name.removeprefix("is_") for name in dir(State) if name.startswith("is_")}

    assert {name for name in names if getattr(state, f"is_{name}")()} == KINDS[kind]
    assert (state.type, state.message, state.result) == (kind.__name__, "why", 5)
    assert repr(state) == f"<{kind.__name__}: 'why'>"


class Told:
    """A state handler that keeps what it is told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []

    def __call__(self, subject: Any, old: State, new: State) -> None:
        self.changes.append((old.type, new.type))


def test_a_task_goes_from_pending_over_running_to_its_end(executor: Executor) -> None:
    told, failures = Told(), []
    attempts = iter([ValueError("a"), ValueError("b"), None])

    @task(
        retries=2,
        delay=0.001,
        state_handlers=[told],
        on_failure=lambda subject, state: failures.append(state),
    )
    def third_time() -> str:
        error = next(attempts)
        if error is not None:
            raise error
        return "done"

    with Flow("third") as flow:
        third_time()
    state = FlowRunner(flow).run(executor=executor)

    assert state.result[third_time].result == "done"
    assert failures == []
    assert told.changes == [
        ("Pending", "Running"),
        ("Running", "Retrying"),
        ("Retrying", "Running"),
        ("Running", "Retrying"),
        ("Retrying", "Running"),
        ("Running", "Success"),
    ]


def test_tasks_that_are_not_run_tell_their_end(executor: Executor) -> None:
    told = Told()

    @task(state_handlers=[told], when=lambda value: False)
    def skipped(value: int) -> None: ...

    @task(state_handlers=[told])
    def triggered(value: Any) -> None: ...

    @task
    def breaks() -> None:
        raise ValueError

    with Flow("not run") as flow:
        skipped(skipped(0))
        triggered(breaks())
    FlowRunner(flow).run(executor=executor)

    assert sorted(told.changes) == [
        *(("Pending", "Skipped"), ("Pending", "Skipped"), ("Pending", "TriggerFailed"))
    ]


def test_elements_and_the_whole_tell_of_themselves(executor: Executor) -> None:
    told = Told()

    @task(state_handlers=[told])
    def double(x: int) -> int:
        return 2 * x

    with Flow("mapped") as flow:
        double.map(double.map([1, 2]))
    FlowRunner(flow).run(executor=executor)

    assert sorted(told.changes) == [
        *[("Pending", "Mapped")] * 2,
        *[("Pending", "Running")] * 4,
        *[("Running", "Success")] * 4,
    ]


def test_on_failure_is_told_once_with_the_error(executor: Executor) -> None:
    failures: list[tuple[Any, State]] = []

    @task(retries=1, delay=0.001, on_failure=lambda *facts: failures.append(facts))
    def breaks() -> None:
        raise ValueError("for good")

    flow = Flow("fails", on_failure=lambda *facts: failures.append(facts))
    with flow:
        breaks()
    state = FlowRunner(flow).run(executor=executor)

    assert [(subject, found.type) for subject, found in failures] == [
        *((breaks, "Failed"), (flow, "Failed"))
    ]
    assert isinstance(failures[0][1].result, ValueError)
    assert failures[1][1] is state


def test_a_handler_may_say_another_state(executor: Executor) -> None:
    def forgive(subject: Any, old: State, new: State) -> State | None:
        return Success("forgiven", "instead") if new.is_failed() else None

    def refuse(subject: Any, old: State, new: State) -> State | None:
        return Failed("not today", ValueError("refused")) if new.is_running() else None

    ran: list[str] = []

    @task(state_handlers=[forgive])
    def breaks() -> None:
        raise ValueError

    @task(state_handlers=[refuse])
    def refused() -> None:
        ran.append("refused")

    @task
    def same(value: Any) -> Any:
        return value

    with Flow("handlers") as flow:
        result = same(breaks())
        refused()
        unrun = breaks(upstream_tasks=[refused()])  # a TriggerFailed may be forgiven, too

    state = FlowRunner(flow).run(executor=executor)

    assert state.result[result].result == "instead"
    assert state.result[flow.tasks[0]].message == "forgiven"
    assert state.result[unrun].result == "instead"
    assert [one.message for one in state.result.values() if one.is_failed()] == ["not today"] * 2
    assert ran == []


def test_handlers_that_raise_or_return_something_else_are_logged_and_change_nothing(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(subject: Any, old: State, new: State) -> State | None:
        raise RuntimeError("handler")

    def odd(subject: Any, old: State, new: State) -> Any:
        return "odd"

    @task(state_handlers=[raises, odd])
    def good() -> int:
        return 1

    flow = Flow("handlers", state_handlers=[raises, odd])
    with flow:
        good()
    with caplog.at_level(logging.ERROR, "perfect"):
        state = FlowRunner(flow).run(executor=executor)

    assert state.is_successful()
    assert state.result[good].result == 1
    assert sum("state handler of 'good' failed" in line for line in caplog.messages) == 2
    assert sum("returned no State" in line for line in caplog.messages) == 4


def test_a_flow_goes_from_scheduled_over_running_to_its_end() -> None:
    told = Told()

    @task
    def good() -> int:
        return 1

    with Flow("good", state_handlers=[told]) as flow:
        good()
    FlowRunner(flow).run()

    assert told.changes == [("Scheduled", "Running"), ("Running", "Success")]


def test_a_flows_handler_may_keep_it_from_running_and_change_its_end(
    perfect_mock: Recorder,
) -> None:
    ran: list[int] = []

    @task
    def notes() -> None:
        ran.append(1)

    def stops(subject: Any, old: State, new: State) -> State | None:
        return Failed("closed today") if new.is_running() else None

    def spoils(subject: Any, old: State, new: State) -> State | None:
        return Failed("no good", new.result) if new.is_successful() else None

    for handler, message in ((stops, "closed today"), (spoils, "no good")):
        with Flow("handled", state_handlers=[handler]) as flow:
            notes()
        assert flow.run().message == message
        assert perfect_mock.run.state is TaskState.FAILED
        assert perfect_mock.run.reason == message
    assert ran == [1]


def test_a_flow_that_is_interrupted_tells_its_handlers() -> None:
    told = Told()

    @task
    def interrupts() -> None:
        raise KeyboardInterrupt

    with Flow("interrupted", state_handlers=[told]) as flow:
        interrupts()
    with pytest.raises(KeyboardInterrupt):
        FlowRunner(flow).run()

    assert told.changes == [("Scheduled", "Running"), ("Running", "Cancelled")]


def test_what_is_told_of_each_state(perfect_mock: Recorder, executor: Executor) -> None:
    attempts = iter([ValueError("once"), None])

    @task
    def good() -> list[int]:
        return [1, 2]

    @task(crucial_pass=False)
    def bad() -> None:
        raise ValueError("bad")

    @task(when=lambda value: False)
    def skipped(value: Any) -> None: ...

    @task
    def mapped(value: int) -> int:
        return value

    @task(retries=1, delay=0.001)
    def again() -> None:
        error = next(attempts)
        if error is not None:
            raise error

    @task(trigger=triggers.all_failed, crucial_pass=False)
    def triggered() -> None: ...

    with Flow("told") as flow:
        rows = good()
        bad(upstream_tasks=[rows])
        skipped(rows)
        mapped.map(rows)
        again()
        triggered(upstream_tasks=[rows])
    assert flow.run(executor=executor).is_successful()

    tasks = {(one.name, one.index): one for one in perfect_mock.run.tasks}
    assert [
        (index, name, one.state.value, one.attempt) for (name, index), one in tasks.items()
    ] == [
        (0, "good", "COMPLETED", 1),
        (1, "bad", "FAILED", 1),
        (2, "skipped", "SKIPPED", 1),
        (3, "mapped", "COMPLETED", 1),
        (4, "again", "COMPLETED", 2),
        (5, "triggered", "FAILED", 1),
        (6, "mapped", "COMPLETED", 1),
        (7, "mapped", "COMPLETED", 1),
    ]
    assert tasks["bad", 1].error is not None and tasks["bad", 1].error["message"] == "bad"
    assert tasks["triggered", 5].error is None
    assert any("goes on: ValueError: bad" in line for line in tasks["bad", 1].logs)
    assert perfect_mock.run.state is TaskState.COMPLETED
