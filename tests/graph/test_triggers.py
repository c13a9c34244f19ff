"""Which states of the tasks before it let a task run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from perfect.core import (
    Executor,
    Flow,
    FlowRunner,
    LocalExecutor,
    State,
    ThreadExecutor,
    task,
    triggers,
)
from perfect.errors import ConfigurationError, TriggerNotMet


@pytest.fixture(params=[LocalExecutor(), ThreadExecutor(4)], ids=["local", "thread"])
def executor(request: pytest.FixtureRequest) -> Executor:
    made: Executor = request.param
    return made


@task
def good() -> str:
    return "good"


@task
def bad() -> None:
    raise ValueError("bad")


@task(crucial_pass=False)
def lenient() -> None:
    raise ValueError("lenient")


@task(when=lambda value: False)
def skipped(value: Any) -> None:
    pass


def nothing() -> Any:
    return skipped(good())


TABLE: list[tuple[Callable[..., bool], dict[str, bool]]] = [
    (
        triggers.all_successful,
        {"": True, "g": True, "gg": True, "gb": False, "b": False, "l": True, "s": True},
    ),
    (triggers.all_finished, {"": True, "g": True, "gb": True, "b": True, "l": True, "s": True}),
    (triggers.always_run, {"": True, "g": True, "gb": True, "b": True, "l": True, "s": True}),
    (
        triggers.any_successful,
        {"": True, "g": True, "gb": True, "b": False, "bl": False, "bs": True},
    ),
    (triggers.any_failed, {"": True, "g": False, "gb": True, "b": True, "l": True, "gs": False}),
    (triggers.all_failed, {"": True, "g": False, "gb": False, "b": True, "bl": True, "bs": False}),
]
MAKE = {"g": lambda: good(), "b": lambda: bad(), "l": lambda: lenient(), "s": nothing}


@pytest.mark.parametrize(
    ("trigger", "before", "runs"),
    [(trigger, before, runs) for trigger, row in TABLE for before, runs in row.items()],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_triggers(
    executor: Executor, trigger: Callable[..., bool], before: str, runs: bool
) -> None:
    ran: list[bool] = []

    @task(trigger=trigger)
    def triggered() -> None:
        ran.append(True)

    with Flow("triggers") as flow:
        node = triggered(upstream_tasks=[MAKE[kind]() for kind in before])

    state = FlowRunner(flow).run(executor=executor).result[node]

    assert bool(ran) is runs
    assert state.is_successful() is runs
    assert state.is_trigger_failed() is not runs
    if not runs:
        assert isinstance(state.result, TriggerNotMet)
        assert state.message == f"not run: its trigger {trigger.__name__} is not met"


def test_the_default_is_all_successful(executor: Executor) -> None:
    with Flow("default") as flow:
        node = good.copy(name="after")(upstream_tasks=[good(), bad()])

    assert FlowRunner(flow).run(executor=executor).result[node].is_trigger_failed()


def test_a_trigger_of_ones_own_is_asked_once_with_all_states(executor: Executor) -> None:
    asked: list[list[str]] = []

    def two_of_three(states: Sequence[State]) -> bool:
        asked.append([state.type for state in states])
        return sum(state.is_successful() for state in states) >= 2

    with Flow("own trigger") as flow:
        before = [good(), bad(), nothing()]
        node = good.copy(trigger=two_of_three)(upstream_tasks=before)

    assert FlowRunner(flow).run(executor=executor).result[node].result == "good"
    assert asked == [["Success", "Failed", "Skipped"]]


def test_a_trigger_that_raises_fails_its_task(executor: Executor) -> None:
    def broken(states: Sequence[State]) -> bool:
        raise RuntimeError("trigger")

    with Flow("broken trigger") as flow:
        node = good.copy(trigger=broken)()
        after = good.copy(name="after")(upstream_tasks=[node])

    state = FlowRunner(flow).run(executor=executor)
    assert isinstance(state.result[node].result, RuntimeError)
    assert not state.result[node].is_trigger_failed()
    assert state.result[after].is_trigger_failed()


def test_a_failures_error_goes_to_the_task_that_runs_for_it(executor: Executor) -> None:
    @task(trigger=triggers.any_failed)
    def repairs(error: Any) -> str:
        return f"repaired {error}"

    with Flow("repair") as flow:
        node = repairs(bad())

    state = FlowRunner(flow).run(executor=executor)
    assert state.result[node].result == "repaired bad"
    assert state.is_successful()  # the task that nobody waits for decides


def test_a_repair_that_nobody_needs_does_not_fail_the_flow_unless_it_is_crucial() -> None:
    def outcome(**options: Any) -> State:
        with Flow("no repair") as flow:
            good.copy(trigger=triggers.any_failed, name="repair", **options)(
                upstream_tasks=[good()]
            )
        return FlowRunner(flow).run()

    assert outcome(crucial_pass=False).is_successful()
    assert outcome().is_failed()


def test_a_trigger_is_a_function() -> None:
    with pytest.raises(ConfigurationError, match="trigger"):
        task(trigger="all_finished")(len)  # type: ignore[call-overload]
