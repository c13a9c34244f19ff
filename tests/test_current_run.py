"""What a flow's code may ask of its run: `perfect.current_run`."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest

import perfect
from perfect import RunInfo, current_run, flow, task
from perfect.core import (
    DaskExecutor,
    Executor,
    Flow,
    FlowRunner,
    LocalDaskExecutor,
    LocalExecutor,
    Parameter,
    ProcessExecutor,
    ThreadExecutor,
)
from perfect.testing import mock
from tests.support.asking import ask
from tests.support.dask import shared_cluster


def asked(value: Any) -> RunInfo:
    assert value is not None
    return RunInfo(*value)


def test_outside_a_run_there_is_none() -> None:
    assert current_run() is None
    assert ask() is None


def test_a_flow_and_its_tasks_are_told_of_their_run() -> None:
    @task
    def inside() -> RunInfo | None:
        return current_run()

    @flow(name="asks", tags={"team": "data"})
    def asks(day: date, count: int = 5, *more: int, **rest: str) -> tuple[Any, Any]:
        assert current_run() is current_run()
        return current_run(), inside()

    before = time.time()
    with mock() as recorder:
        of_flow, of_task = asks(date(2024, 1, 1), 6, 7, word="x")
    assert of_flow is of_task
    assert of_flow.id == recorder.run.id
    assert of_flow.flow == "asks" and of_flow.configuration == "development"
    assert of_flow.parameters == {"day": date(2024, 1, 1), "count": 6, "more": (7,), "word": "x"}
    assert of_flow.tags == {"team": "data"}
    assert (of_flow.trigger, of_flow.parent, of_flow.retry_of) == ("call", None, None)
    assert before <= of_flow.started <= time.time()
    assert current_run() is None


def test_defaults_are_filled_in_and_the_configuration_is_the_run_s() -> None:
    @flow
    def with_defaults(count: int = 5, day: date = date.min) -> Any:
        return current_run()

    with mock() as recorder:
        found = perfect.run(with_defaults, configuration="release", parameters={"count": 6})
    assert found.parameters == {"count": 6, "day": date.min}
    assert found.configuration == "release"
    assert recorder.run.parameters == {"count": 6}


def test_what_it_tells_changes_nothing() -> None:
    @flow(tags={"a": "b"})
    def changes() -> Any:
        found = current_run()
        assert found is not None
        found.tags["a"] = "changed"
        with pytest.raises(AttributeError):
            found.id = "x"  # type: ignore[misc]
        return found

    with mock() as recorder:
        changes()
        changes()
    assert [run.tags for run in recorder.runs] == [{"a": "b"}, {"a": "b"}]


def test_flows_in_flows_name_their_parent() -> None:
    @flow
    def inner() -> Any:
        return current_run()

    @flow
    def outer() -> Any:
        return current_run(), inner()

    with mock():
        above, below = outer()
    assert (below.flow, below.parent) == ("inner", above.id)
    assert above.parent is None


def test_in_threads_pools_and_coroutines() -> None:
    @flow
    def threads() -> set[Any]:
        found: list[Any] = [current_run()]
        thread = threading.Thread(target=lambda: found.append(current_run()))
        thread.start()
        thread.join()
        with ThreadPoolExecutor() as pool:
            found += pool.map(perfect.propagate(lambda _: current_run()), range(3))
        found += [asked(future.result()) for future in [ask.submit() for _ in range(3)]]
        return {one.id for one in found}

    @flow
    async def coroutines() -> set[Any]:
        async def later() -> Any:
            await asyncio.sleep(0)
            return current_run()

        found = await asyncio.gather(
            later(), asyncio.create_task(later()), asyncio.to_thread(later)
        )
        return {one.id for one in (current_run(), *found[:2], await found[2]) if one}

    with mock() as recorder:
        assert threads() == {recorder.runs[0].id}
        assert asyncio.run(coroutines()) == {recorder.runs[1].id}


def test_two_runs_at_once_don_t_see_each_other() -> None:
    both = threading.Barrier(2, timeout=20)

    @flow
    def at_once(name: str) -> str:
        both.wait()
        found = current_run()
        assert found is not None
        return str(found.parameters["name"])

    with mock(), ThreadPoolExecutor(2) as pool:
        assert list(pool.map(at_once, "ab")) == ["a", "b"]


def on_dask() -> Executor:
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    return DaskExecutor(shared_cluster())


def on_dask_in_threads() -> Executor:
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    return LocalDaskExecutor(num_workers=1)


EXECUTORS = [
    LocalExecutor,
    lambda: ThreadExecutor(2),
    lambda: ProcessExecutor(1),
    lambda: ProcessExecutor(1, start_method="spawn"),
    on_dask,
    on_dask_in_threads,
]
NAMES = ["local", "thread", "process", "process-spawn", "dask", "dask-threads"]


@pytest.fixture(params=EXECUTORS, ids=NAMES)
def executor(request: pytest.FixtureRequest) -> Executor:
    made: Executor = request.param()
    return made


def test_in_the_tasks_of_a_graph_wherever_they_run(executor: Executor) -> None:
    with Flow("graph", tags={"team": "data"}) as graph:
        day = Parameter("day", default=date(2024, 1, 1))
        told = ask(day)
    with mock() as recorder:
        state = graph.run(executor=executor, configuration="release")
    found = asked(state.result[told].result)
    assert (found.id, found.flow) == (recorder.run.id, "graph")
    assert (found.configuration, found.tags) == ("release", {"team": "data"})
    away = isinstance(executor, (ProcessExecutor, DaskExecutor))
    assert found.parameters == {"day": "2024-01-01" if away else date(2024, 1, 1)}


def test_a_graph_that_nobody_is_told_of_has_no_run(executor: Executor) -> None:
    with Flow("untold") as graph:
        told = ask()
    assert FlowRunner(graph).run(executor=executor).result[told].result is None
