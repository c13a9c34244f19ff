"""`perfect.core.Flow` as a whole: running, parameters, reference tasks, being tracked, nesting."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import perfect
from perfect import core
from perfect.cli import main
from perfect.core import (
    Executor,
    Flow,
    FlowRunner,
    LocalExecutor,
    Parameter,
    State,
    ThreadExecutor,
    task,
    unmapped,
)
from perfect.errors import ConfigurationError, GraphError, NotFound, PerfectError
from perfect.loading import load_flows
from perfect.records import TaskRun
from perfect.session import get_session
from perfect.states import TaskState
from perfect.testing import Recorder
from tests.support.backend import BackendProcess


@pytest.fixture(params=[LocalExecutor(), ThreadExecutor(4)], ids=["local", "thread"])
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
def breaks() -> Any:
    raise ValueError("broken")


def test_every_name_that_is_promised_is_there() -> None:
    for name in core.__all__:
        if name not in core._LATE:
            assert getattr(core, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        core.Nothing


# --- parameters ------------------------------------------------------------------------------------


def parameterised() -> tuple[Flow, Any]:
    with Flow("parameters") as flow:
        x, y = Parameter("x"), Parameter("y", default=[10])
        result = plus([x], y)
    return flow, result


def test_parameters(perfect_mock: Recorder) -> None:
    flow, result = parameterised()

    assert flow.run(parameters={"x": 1}).result[result].result == [1, 10]
    assert flow.run(x=2, y=[3]).result[result].result == [2, 3]
    assert flow.run({"x": 1, "y": [1]}, x=4).result[result].result == [4, 1]
    assert FlowRunner(flow).run({"x": 5}).result[result].result == [5, 10]
    assert perfect_mock.run.parameters == {"x": 4, "y": [1]}
    assert list(flow.parameters()) == ["x", "y"]
    assert len(perfect_mock.run.tasks) == 1  # parameters are no tasks


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"parameters\['x'\].*is required"),
        ({"x": 1, "z": 2}, r"parameters\['z'\].*no such parameter; it has: x, y"),
        ([("x", 1)], "parameters.*not a mapping"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(
    perfect_mock: Recorder, given: Any, message: str
) -> None:
    flow, _ = parameterised()
    for refuse in (flow.run, FlowRunner(flow).run):
        with pytest.raises(ConfigurationError, match=message):
            refuse(given)
    assert perfect_mock.runs == []


def test_parameters_with_and_without_default() -> None:
    assert Parameter("x").required
    assert not Parameter("x", None).required
    assert not Parameter("x", required=False).required
    assert Parameter("x", 5)() == 5
    for wrong in ({"name": ""}, {"name": "x", "default": 1, "required": True}):
        with pytest.raises(ConfigurationError):
            Parameter(**wrong)  # type: ignore[arg-type]


def test_a_parameter_may_be_subclassed_and_have_any_name(perfect_mock: Recorder) -> None:
    class Special(Parameter):
        pass

    with Flow("odd names") as flow:
        result = same([Special("executor"), Special("my word", default="b")])

    state = flow.run({"executor": "a"})
    assert state.result[result].result == ["a", "b"]
    assert len(perfect_mock.run.tasks) == 1


# --- results ----------------------------------------------------------------------------------------


def test_results_are_found_by_call_task_and_part() -> None:
    with Flow("results") as flow:
        first, second = same({"a": [1]}), plus(1)
        skipped = same.copy(when=lambda value: False, name="skipped")(second)
        broken = breaks()
    results = FlowRunner(flow).run().result

    assert results[first].result == {"a": [1]}
    assert results[plus].result == 2
    assert results[first["a"][0]].result == 1
    assert results[broken["x"]].is_failed()
    assert results[skipped["x"]].is_skipped()
    assert (plus in results, first["b"] in results, breaks.copy() in results, 5 in results) == (
        *(True, True, False, False),
    )
    assert results.get(plus).result == 2
    assert results.get(breaks.copy()) is None
    assert dict(results) == {node: results[node] for node in flow.tasks}
    assert repr(results).startswith("{<Node 0 'same'>: <Success>, ")
    for unknown in (breaks.copy(), 5, Flow("x").add_task(plus)):
        with pytest.raises(NotFound):
            results[unknown]
    with pytest.raises(KeyError):
        results[first["b"]]


def test_return_tasks(executor: Executor) -> None:
    with Flow("return") as flow:
        first = same(1)
        second = plus(first)
        plus(second)

    state = FlowRunner(flow).run(executor=executor, return_tasks=[second, first["x"]])

    assert [state.result[node].result for node in state.result] == [2, 1]
    assert len(state.result) == 2
    with pytest.raises(NotFound, match="was not asked for"):
        state.result[flow.tasks[2]]


# --- reference tasks -----------------------------------------------------------------------------------


def test_reference_tasks_decide() -> None:
    with Flow("reference") as flow:
        good, bad = same(1), breaks()

    assert flow.reference_tasks() == [good, bad]
    assert FlowRunner(flow).run().is_failed()
    flow.set_reference_tasks([good])
    assert FlowRunner(flow).run().is_successful()
    flow.set_reference_tasks(bad)
    state = FlowRunner(flow).run()
    assert (state.is_failed(), state.message) == (True, "task 'breaks' failed: ValueError: broken")
    flow.set_reference_tasks([])
    assert flow.reference_tasks() == [good, bad]


def test_an_empty_flow_succeeds() -> None:
    assert FlowRunner(Flow("empty")).run().is_successful()


# --- tracked ----------------------------------------------------------------------------------------------


def records() -> list[TaskRun]:
    recorded = get_session().recorded or []
    found = {record.index: record for record in recorded if isinstance(record, TaskRun)}
    return [found[index] for index in sorted(found)]


def test_what_is_told(perfect_mock: Recorder, executor: Executor) -> None:
    with Flow("told", description="d", tags={"team": "a"}, executor=executor) as flow:
        x = Parameter("x", default=[1, 2])
        first = same(x)
        second = plus.map(first, unmapped(same(first)))
        same([second, first], upstream_tasks=[x])

    flow.run(configuration="release")

    run = perfect_mock.run
    assert (run.flow, run.configuration, run.tags) == ("told", "release", {"team": "a"})
    told = [(one.index, one.task.name, one.upstream, one.map_index) for one in records()]
    assert told == [
        (0, "same", (), None),
        (1, "same", (0,), None),
        (2, "plus", (0, 1), None),
        (3, "same", (2, 0), None),
        (4, "plus", (0, 1), 0),
        (5, "plus", (0, 1), 1),
    ]
    failed = records()[2]  # a number and a list
    assert failed.error is not None and failed.error["type"] == "TypeError"
    definition = flow.definition.to_dict()
    assert [one["name"] for one in definition["tasks"]] == ["same", "same", "plus", "same"]
    assert definition["edges"] == [[0, 1], [0, 2], [1, 2], [2, 3], [0, 3]]
    assert definition["parameters"] == {
        "type": "object",
        "properties": {"x": {"default": [1, 2]}},
        "required": [],
        "additionalProperties": False,
    }


def test_nodes_that_never_ran_are_told_with_the_reason(
    perfect_mock: Recorder, executor: Executor
) -> None:
    with Flow("unrun", executor=executor) as flow:
        same(plus(breaks()))
    state = flow.run()

    run = perfect_mock.run
    assert [one.state.value for one in run.tasks] == ["FAILED"] * 3
    assert [one.reason for one in records()] == [
        None,
        "not run: 'breaks' before it failed",
        "not run: 'plus' before it was not run",
    ]
    assert [one.error is None for one in run.tasks] == [False, True, True]
    assert (run.state, run.reason, run.error) == (TaskState.FAILED, state.message, None)


def test_eager_calls_inside_tasks_come_after_the_nodes(
    perfect_mock: Recorder, executor: Executor
) -> None:
    @task
    def nests(x: int) -> int:
        return plus(x)

    with Flow("nests", executor=executor) as flow:
        result = nests(nests(1))

    assert flow.run().result[result].result == 3
    assert [(one.index, one.name) for one in perfect_mock.run.tasks] == [
        *((0, "nests"), (1, "nests"), (2, "plus"), (3, "plus"))
    ]


def test_stubs_stand_in_for_tasks_of_a_graph(perfect_mock: Recorder, executor: Executor) -> None:
    perfect_mock.stub(breaks, [1, 2])
    perfect_mock.fail("plus")
    with Flow("stubbed", executor=executor) as flow:
        rows = breaks()
        mapped = plus.map(rows)

    state = flow.run()
    assert state.result[rows].result == [1, 2]
    assert state.result[mapped].is_failed()


def test_a_graph_flow_inside_a_task_is_a_run_with_a_parent(
    perfect_mock: Recorder, executor: Executor
) -> None:
    with Flow("inner", executor=executor) as inner:
        innermost = plus(1)

    @task
    def runs_inner() -> Any:
        return inner.run().result[innermost].result

    with Flow("outer", executor=executor) as outer:
        result = runs_inner()

    @perfect.flow
    def eager() -> Any:
        return outer.run().result[result].result

    assert eager() == 2
    runs = {run.flow: run for run in perfect_mock.runs}
    assert runs["outer"].parent == runs["eager"].id
    assert runs["inner"].parent == runs["outer"].id
    assert [len(runs[name].tasks) for name in ("eager", "outer", "inner")] == [0, 1, 1]


def test_lines_of_tasks_in_threads_stand_in_their_logs(perfect_mock: Recorder) -> None:
    both = threading.Barrier(4)

    @task
    def prints(number: int) -> None:
        both.wait(20)
        print("number", number)

    with Flow("prints", executor=ThreadExecutor(4)) as flow:
        prints.map(range(4))
    flow.run()

    assert [one.logs for one in perfect_mock.run.tasks[1:]] == [[f"number {n}"] for n in range(4)]


@pytest.mark.parametrize(
    "wrong", [{"executor": "thread"}, {"configuration": "x" * 201}, {"configuration": 1}]
)
def test_wrong_arguments_of_run_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Flow("x").run(**wrong)


# --- from files ------------------------------------------------------------------------------------------------

SOURCE = """
from perfect.core import Flow, Parameter, task
import perfect

@task
def shout(text): print(text.upper()); return 1 / len(text)

with Flow("greeting") as hello:
    shout(Parameter("text", default="hello"))

@perfect.flow
def eager(): return 5
"""


def test_flows_of_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "greetings.py"
    path.write_text(SOURCE)

    flows = load_flows(str(path))
    assert set(flows) == {"hello", "greeting", "eager"}
    assert isinstance(flows["hello"], Flow)

    assert main(["run", f"{path}:hello"]) == 0
    assert capfd.readouterr().out == "HELLO\nall reference tasks succeeded\n"
    assert main(["run", f"{path}:greeting", "-p", "text=bye"]) == 0
    assert capfd.readouterr().out.startswith("BYE\n")
    assert main(["run", f"{path}:hello", "-p", 'text=""']) == 1
    assert (
        "flow 'greeting' failed: task 'shout' failed: ZeroDivisionError" in capfd.readouterr().err
    )
    assert main(["run", f"{path}:hello", "-p", "nothing=1"]) != 0
    assert "no such parameter" in capfd.readouterr().err
    assert main(["run", f"{path}:eager"]) == 0


# --- with a real backend ------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_a_run_in_the_backend(backend: BackendProcess, executor: Executor) -> None:
    perfect.configure(backend_url=backend.url)
    with Flow("of the backend", executor=executor) as flow:
        rows = same([1, 2])
        mapped = plus.map(rows)
        plus(breaks())
        same(mapped, upstream_tasks=[same.copy(when=lambda value: False, name="skips")(rows)])
    flow.run()
    get_session().flush(20)

    run = next(
        one for one in backend.get("/api/runs?flow=of the backend".replace(" ", "%20"))["runs"]
    )
    tasks = backend.get(f"/api/runs/{run['id']}")["tasks"]
    told = [(one["index"], one["taskName"], one["state"], one["upstream"]) for one in tasks]
    assert run["state"] == "FAILED"
    assert told == [
        (0, "same", "COMPLETED", []),
        (1, "plus", "COMPLETED", [0]),
        (2, "breaks", "FAILED", []),
        (3, "plus", "FAILED", [2]),
        (4, "skips", "SKIPPED", [0]),
        (5, "same", "COMPLETED", [1, 4]),
        (6, "plus", "COMPLETED", [0]),
        (7, "plus", "COMPLETED", [0]),
    ]


@pytest.mark.e2e
def test_a_large_graph_in_the_backend(backend: BackendProcess) -> None:
    """3,000 nodes in two chains: more than are listed, and each far from the other by its place."""
    perfect.configure(backend_url=backend.url)
    with Flow("large", executor=ThreadExecutor(4)) as flow:
        start = Parameter("start", default=0)
        for _ in range(2):
            node: Any = start
            for _ in range(1499):
                node = plus(node)
        breaks()
        same(flow.tasks[-1])
    state = flow.run()
    assert state.is_failed()
    get_session().flush(60)

    run = backend.get("/api/runs?flow=large")["runs"][0]
    tasks = backend.get(f"/api/runs/{run['id']}")["tasks"]
    assert len(flow.definition.to_dict()["tasks"]) == 0
    assert len(tasks) == 3000
    assert [one["index"] for one in tasks] == list(range(3000))
    states = [one["state"] for one in tasks]
    assert (states.count("COMPLETED"), states.count("FAILED")) == (2998, 2)
    # Two chains: each node waits for one that began before it, and each but the last is waited for once.
    before = [one["upstream"] for one in tasks if one["taskName"] == "plus"]
    assert sorted(len(one) for one in before) == [0, 0] + [1] * 2996
    waited_for = [one[0] for one in before if one]
    assert len(set(waited_for)) == len(waited_for)
    (unrun,) = [one for one in tasks if one["taskName"] == "same"]
    (broken,) = [one for one in tasks if one["taskName"] == "breaks"]
    assert unrun["upstream"] == [broken["index"]]
    assert all(one["upstream"][0] < one["index"] for one in tasks if one["upstream"])


def test_reasons_are_told(perfect_mock: Recorder, executor: Executor) -> None:
    with Flow("reasons", executor=executor) as flow:
        same.copy(when=lambda value: False)(same(1))
        same.map([1, 2])
    flow.run()

    assert [record.reason for record in records()] == [
        *(None, "not wanted: `when` says no", "over 2 elements", None, None)
    ]


def test_what_was_not_run_of_a_large_graph_is_told_after_what_it_waits_for(
    perfect_mock: Recorder,
) -> None:
    @task
    def interrupts() -> None:
        raise KeyboardInterrupt

    with Flow("large") as flow:
        node = interrupts()
        for _ in range(2100):
            node = same(node)
    with pytest.raises(KeyboardInterrupt):
        flow.run()

    told = [(record.index, record.upstream) for record in records()]
    assert told == [(0, ()), *((index, (index - 1,)) for index in range(1, 2101))]
