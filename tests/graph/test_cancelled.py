"""A graph's run is cancelled: what its tasks hear of it, and what becomes of them, on every executor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfect import RunCancelled
from perfect.core import Executor, Flow, LocalDaskExecutor
from perfect.graph import remote
from perfect.graph.executors import dask, process
from perfect.graph.executors.base import Work
from perfect.session import CANCELLED, get_session
from perfect.testing import RecordedRun, mock
from tests.graph import graph_steps as steps
from tests.graph.executors_under_test import EXECUTORS, UnderTest
from tests.graph.test_executors import _left, nothing_more_than
from tests.support.processes import poll_until


@contextmanager
def dask_processes() -> Iterator[Executor]:
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    yield LocalDaskExecutor("processes", 2)


OWN_DASK = UnderTest("dask-processes", dask_processes, "LocalDaskExecutor('processes', 2)")
ALL = [*EXECUTORS, OWN_DASK._replace(elsewhere=True)]

# Those whose worker processes are made for each run.
OF_THE_RUN = [one for one in ALL if one.elsewhere and one.name != "dask"]


@pytest.fixture(params=ALL, ids=lambda one: one.name)
def under_test(request: pytest.FixtureRequest) -> UnderTest:
    found: UnderTest = request.param
    return found


@pytest.fixture
def executor(under_test: UnderTest) -> Iterator[Executor]:
    with under_test.make() as made:
        yield made


def cancelled_once(
    there: Callable[[], object],
    flow: Flow,
    executor: Executor,
    then: Callable[[], object] = lambda: None,
) -> RecordedRun:
    """Run a flow, and cancel it as the backend would as soon as something is there."""
    with mock() as recorder:

        def cancel() -> None:
            poll_until(there)
            for run_id in list(get_session().active):
                get_session().cancel(run_id)
            then()

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            with pytest.raises(RunCancelled, match=CANCELLED):
                flow.run(executor=executor)
        finally:
            thread.join()
        return recorder.run


def states(run: RecordedRun) -> list[tuple[str, str, str | None]]:
    return [(entry.name, entry.state, entry.reason) for entry in run.tasks]


def never_begun(name: str) -> tuple[str, str, str]:
    return (name, "CANCELLED", CANCELLED)


def test_a_task_that_asks_ends_by_itself_and_nothing_begins_after_it(
    executor: Executor, tmp_path: Path
) -> None:
    told = tmp_path / "told"

    def run_it() -> RecordedRun:
        told.unlink(missing_ok=True)
        with Flow("asks") as flow:
            first = steps.until_cancelled(str(told))
            steps.takes(steps.takes(first))
        return cancelled_once(told.exists, flow, executor)

    run_it()
    before = _left()
    run = run_it()
    assert (run.state, run.reason) == ("CANCELLED", CANCELLED)
    assert states(run) == [
        ("until_cancelled", "COMPLETED", None),
        never_begun("takes"),
        never_begun("takes"),
    ]
    assert run.task("until_cancelled").logs == ["cancelled: False", "cancelled: True"]
    assert nothing_more_than(before), (_left(), before)


def test_what_it_says_is_its_own_though_its_beginning_is_heard_of_late(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, a task may have begun while the run is cancelled here."""
    cancelled = threading.Event()
    begun = remote.begun

    def late(work: Work) -> None:
        assert cancelled.wait(10)
        begun(work)

    monkeypatch.setattr(remote, "begun", late)
    told = tmp_path / "told"
    with Flow("asks") as flow:
        steps.until_cancelled(str(told))
    run = cancelled_once(told.exists, flow, executor, then=cancelled.set)
    assert states(run) == [("until_cancelled", "COMPLETED", None)]
    assert run.task("until_cancelled").logs == ["cancelled: False", "cancelled: True"]


def test_what_waits_for_a_place_is_cancelled(
    executor: Executor, under_test: UnderTest, tmp_path: Path
) -> None:
    def begun() -> bool:
        return len([one for one in os.listdir(tmp_path) if one.isdigit()]) > 0

    with Flow("crowded") as flow:
        for number in range(60):
            steps.until_cancelled(str(tmp_path / str(number)))
    run = cancelled_once(begun, flow, executor)
    completed = [entry for entry in run.tasks if entry.state == "COMPLETED"]
    given_up = [line for line in run.logs if "had begun at worker" in line]  # before that was heard
    assert len(completed) + len(given_up) == len(os.listdir(tmp_path)) <= 32
    assert given_up == [] or under_test.code.startswith(("Dask", "LocalDask"))
    assert {entry.state for entry in run.tasks} == {"COMPLETED", "CANCELLED"}
    assert {entry.reason for entry in run.tasks} == {None, CANCELLED}


def test_a_task_that_does_not_ask(
    executor: Executor,
    under_test: UnderTest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process it is waited for; elsewhere it is killed, or left to itself on a cluster of others."""
    for module in (dask, process):
        monkeypatch.setattr(module, "GRACE", 0.2)
    gate, told = tmp_path / "gate", tmp_path / "told"
    with Flow("asks not") as flow:
        steps.takes(steps.waits_for(str(gate), str(told)))

    def there() -> bool:
        if not told.exists():
            return False
        if not under_test.elsewhere:  # so that it ends after the run was cancelled
            threading.Timer(0.3, gate.touch).start()
        return True

    run = cancelled_once(there, flow, executor)
    assert (run.state, run.reason) == ("CANCELLED", CANCELLED)
    if not under_test.elsewhere:
        assert states(run) == [("waits_for", "COMPLETED", None), never_begun("takes")]
        return
    assert states(run) == [never_begun("waits_for"), never_begun("takes")]
    at_work = Path("/proc", told.read_text())
    if under_test.name == "dask":
        gate.touch()
        (line,) = run.logs
        assert line.startswith("perfect: task 'waits_for' is at work at worker ")
        assert line.endswith("it is left to itself") and at_work.exists()
    else:
        assert not at_work.exists() and run.logs == []


@pytest.mark.parametrize("under_test", OF_THE_RUN, indirect=True, ids=lambda one: one.name)
def test_a_worker_that_dies_then_is_not_replaced(executor: Executor, tmp_path: Path) -> None:
    told = tmp_path / "told"
    with Flow("dies") as flow:
        steps.dies_when_cancelled(str(told))
    run = cancelled_once(told.exists, flow, executor)
    (entry,) = run.tasks
    assert (entry.state, entry.attempt) == ("CANCELLED", 1)
