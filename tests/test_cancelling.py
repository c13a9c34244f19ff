"""Runs that are told to end, without a backend: what stops, what goes on, and what it is called then."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import perfect
from perfect import RunCancelled, StateManager, cancelled, core, flow, flowkit, task
from perfect.session import get_session
from perfect.testing import Recorder, mock

CANCELLED = "cancelled from the dashboard"


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with mock() as made:
        yield made


def cancel_all() -> None:
    """What the session does when an answer of the backend names its runs."""
    session = get_session()
    for run_id in list(session.active):
        session.cancel(run_id)


@task
def cancelling() -> str:
    assert not cancelled()
    cancel_all()
    assert cancelled()
    return "done all the same"


@task
def never(value: Any = None) -> None:
    raise AssertionError("it must not begin")


def test_outside_a_run_nothing_is_cancelled() -> None:
    assert cancelled() is False


def test_no_task_begins_and_no_except_exception_holds_it_up(recorder: Recorder) -> None:
    seen = []

    @flow
    def stubborn() -> None:
        cancelling()
        for _ in range(3):
            try:
                never()
            except Exception:
                seen.append("an Exception")
            finally:
                seen.append("cleaned up")

    with pytest.raises(RunCancelled, match=CANCELLED):
        stubborn()
    run = recorder.run
    assert seen == ["cleaned up"]
    assert (run.state, run.reason, run.error) == ("CANCELLED", CANCELLED, None)
    assert [(entry.name, entry.state) for entry in run.tasks] == [("cancelling", "COMPLETED")]


def test_the_end_of_the_flow_is_a_boundary_too(recorder: Recorder) -> None:
    @flow
    def ends() -> str:
        cancelling()
        return "a value"

    with pytest.raises(RunCancelled):
        ends()
    assert recorder.run.state == "CANCELLED"


def test_what_the_flow_raises_then_is_kept_with_the_run(recorder: Recorder) -> None:
    @flow
    def raises() -> None:
        cancelling()
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        raises()
    run = recorder.run
    assert (run.state, run.reason) == ("CANCELLED", CANCELLED)
    assert run.error is not None and run.error["message"] == "half way"


def test_the_pause_before_a_retry_ends(recorder: Recorder) -> None:
    @task(retries=1, delay=600)
    def fails() -> None:
        threading.Timer(0.05, cancel_all).start()
        raise OSError("again")

    @flow
    def pauses() -> None:
        fails()

    began = time.monotonic()
    with pytest.raises(RunCancelled):
        pauses()
    assert time.monotonic() - began < 60
    (entry,) = recorder.run.tasks
    assert (entry.state, entry.reason, entry.attempt) == ("CANCELLED", CANCELLED, 1)


def test_an_async_flow_ends_at_its_next_task(recorder: Recorder) -> None:
    @task(retries=1, delay=600)
    async def fails() -> None:
        raise OSError("again")

    @task
    async def ends_it() -> None:
        await asyncio.sleep(0.05)
        cancel_all()

    @flow
    async def several() -> None:
        results = await asyncio.gather(fails(), ends_it(), return_exceptions=True)
        assert isinstance(results[0], RunCancelled)
        never()

    with pytest.raises(RunCancelled):
        asyncio.run(several())
    states = {entry.name: entry.state for entry in recorder.run.tasks}
    assert states == {"fails": "CANCELLED", "ends_it": "COMPLETED"}
    assert recorder.run.state == "CANCELLED"


def test_what_was_submitted_is_waited_for_and_the_rest_does_not_begin(recorder: Recorder) -> None:
    begun, told = threading.Event(), threading.Event()

    @task
    def patient() -> None:
        begun.set()
        while not cancelled():
            time.sleep(0.01)
        told.set()

    @flow
    def threaded() -> None:
        patient.submit()
        begun.wait(10)
        cancelling()
        never.map(range(100))

    with pytest.raises(RunCancelled):
        threaded()
    assert told.is_set()
    assert {entry.name for entry in recorder.run.tasks} == {"patient", "cancelling"}


def test_a_flow_inside_a_flow_ends_with_it_and_none_begins_after(recorder: Recorder) -> None:
    @flow
    def inner() -> None:
        cancelling()
        never()

    @flow
    def later() -> None:
        raise AssertionError("it must not begin")

    @flow
    def outer() -> None:
        try:
            inner()
        finally:
            with pytest.raises(RunCancelled):
                later()

    with pytest.raises(RunCancelled):
        outer()
    assert {run.flow: run.state for run in recorder.runs} == {
        "outer": "CANCELLED",
        "inner": "CANCELLED",
    }


def test_only_the_run_that_is_named_ends(recorder: Recorder) -> None:
    @flow
    def other() -> str:
        get_session().cancel("00000000-0000-4000-8000-000000000000")
        assert not cancelled()
        return "done"

    assert other() == "done"
    assert recorder.run.state == "COMPLETED"


@pytest.mark.parametrize("executor", [core.LocalExecutor(), core.ThreadExecutor(3)])
def test_a_graph_begins_nothing_more_and_tells_what_it_did_not_begin(
    recorder: Recorder, executor: core.Executor
) -> None:
    old_and_new = []
    with core.Flow(
        "graph",
        executor=executor,
        state_handlers=[lambda subject, old, new: old_and_new.append(new.type)],
    ) as graph:
        first = cancelling()
        for _ in range(3):
            never(never(first))

    with pytest.raises(RunCancelled, match=CANCELLED):
        graph.run()
    run = recorder.run
    assert (run.state, run.reason) == ("CANCELLED", CANCELLED)
    assert [entry.state for entry in run.tasks] == ["COMPLETED"] + ["CANCELLED"] * 6
    assert {entry.reason for entry in run.tasks[1:]} == {CANCELLED}
    assert old_and_new == ["Running", "Cancelled"]


def test_a_pipeline_keeps_what_it_had_done_for_the_next_run(recorder: Recorder) -> None:
    calls = []

    @task
    def early() -> int:
        calls.append("early")
        return 1

    @task
    def late(early: int) -> int:
        calls.append("late")
        return early + 1

    @task
    def between(early: int) -> None:
        if calls.count("early") == calls.count("between") + 1 == 1:
            calls.append("between")
            cancel_all()

    store = StateManager()
    pipeline = flowkit.Flow("pipeline").add(early).add(between).add(late)
    with pytest.raises(RunCancelled):
        pipeline.run(resume=store)
    assert calls == ["early", "between"]
    assert pipeline.run(resume=store)["late"] == 2
    assert calls == ["early", "between", "late"]


# --- the results that a flow of `perfect.core` keeps ----------------------------------------------


def keeping(fails: list[bool], calls: list[Any], **options: Any) -> core.Flow:
    @task
    def fetch(day: str) -> str:
        calls.append(("fetch", day))
        return day

    @task
    def load(one: str, two: str) -> str:
        calls.append(("load", one))
        if fails.pop():
            raise OSError("not there yet")
        return one + two

    with core.Flow("keeping", **options) as made:
        day = core.Parameter("day")
        load(fetch(day), fetch(day))  # two uses of one task
    return made


def test_a_flow_goes_on_where_the_last_run_with_the_same_parameters_failed(
    recorder: Recorder,
) -> None:
    calls: list[Any] = []
    made = keeping([False, False, True, True], calls, resume=StateManager())
    assert made.run(day="monday").is_failed()
    assert made.run(day="tuesday").is_failed()
    calls.clear()
    assert made.run(day="monday").is_successful()
    assert calls == [("load", "monday")]
    reasons = [entry.reason for entry in recorder.run.tasks]
    assert reasons == ["result of an earlier run, which failed later"] * 2 + [None]
    calls.clear()
    assert made.run(day="tuesday").is_successful()
    assert calls == [("load", "tuesday")]


def test_after_a_success_the_next_run_is_a_whole_one(recorder: Recorder) -> None:
    calls: list[Any] = []
    store = StateManager()
    made = keeping([False, False], calls, resume=store)
    for _ in range(2):
        assert made.run(day="monday").is_successful()
    assert len(calls) == 6 and store.get_all() == {}


def test_a_parameter_that_nobody_can_compare_makes_it_a_whole_run(recorder: Recorder) -> None:
    calls: list[Any] = []
    store = StateManager()
    made = keeping([False], calls, resume=store)
    assert made.run(day=threading.Lock()).is_failed()  # it can't be added up
    assert store.get_all() == {}


def test_what_is_no_state_manager_is_refused() -> None:
    with pytest.raises(perfect.ConfigurationError, match="resume"):
        core.Flow("flow", resume={})  # type: ignore[arg-type]
    with pytest.raises(perfect.ConfigurationError, match="resume"):
        flowkit.Flow("flow").add(cancelling).run(resume={})  # type: ignore[arg-type]


def test_a_registration_says_whether_results_are_kept() -> None:
    assert keeping([], [], resume=StateManager()).definition.to_dict()["resumes"] is True
    assert "resumes" not in keeping([], []).definition.to_dict()
