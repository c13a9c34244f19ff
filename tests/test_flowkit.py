"""Flowkit: what is wired, what is injected where, how a pipeline fails, resumes and tells of itself."""

from __future__ import annotations

import inspect
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import perfect
from perfect import logs
from perfect.errors import ConfigurationError, CycleError, GraphError, NotFound, PerfectError
from perfect.flowkit import (
    DAG,
    DAGCycleError,
    Flow,
    FlowkitError,
    LogLevel,
    StateManager,
    Task,
    TaskExecutionError,
    TaskNotFoundError,
    configure_logging,
    task,
)
from perfect.graph.executors.local import LocalExecutor
from perfect.states import TaskState
from perfect.tasks import Task as TheTask
from perfect.testing import Recorder


@pytest.fixture(autouse=True)
def own_registry(perfect_mock: Recorder) -> Iterator[None]:
    Task.clear_registry()
    yield
    Task.clear_registry()


def numbered(name: str, *parameters: str) -> Task[..., Any]:
    """A task of that name which returns its name and what it was given."""
    code = f"def {name}({', '.join(parameters)}):\n    return ({name!r}, *locals().values())"
    space: dict[str, Any] = {}
    exec(code, space)
    return task(space[name])


# What a DAG runs


def test_a_dag_runs_every_task_since_the_registry_was_cleared_wired_or_not() -> None:
    a, alone, b = numbered("a"), numbered("alone"), numbered("b", "x")
    a >> b
    assert DAG().run() == {"a": ("a",), "alone": ("alone",), "b": ("b", ("a",))}
    Task.clear_registry()
    numbered("later")
    assert DAG().run() == {"later": ("later",)}


def test_a_dag_runs_other_tasks_that_are_wired_to_a_registered_one() -> None:
    @perfect.task
    def elsewhere() -> int:
        return 1

    @perfect.task
    def further(x: int) -> int:
        return x + 1

    @task
    def known(x: int) -> int:
        return x + 10

    elsewhere >> known
    elsewhere >> further
    assert DAG().run() == {"known": 11, "elsewhere": 1, "further": 2}


def test_tasks_narrow_a_dag_to_the_graphs_that_contain_them() -> None:
    a, b, _ = numbered("a"), numbered("b"), numbered("c")
    a >> b
    assert list(DAG(tasks=[b]).run()) == ["a", "b"]
    assert list(DAG(tasks=["c"]).run()) == ["c"]
    with pytest.raises(TaskNotFoundError, match="no task 'd'.*registered: a, b, c"):
        DAG(tasks=["d"])
    with pytest.raises(ConfigurationError, match="neither a task nor the name"):
        DAG(tasks=[3])  # type: ignore[list-item]


def test_clearing_the_registry_forgets_the_wires_too() -> None:
    a, b = numbered("a"), numbered("b", "x")
    a >> b
    Task.clear_registry()
    with pytest.raises(GraphError, match="(?=.*'b')(?=.*'x')"):
        DAG(tasks=[b]).run()


def test_a_dag_without_tasks_is_refused() -> None:
    with pytest.raises(FlowkitError, match="'nothing' has no tasks"):
        DAG("nothing").run()


def test_wiring_after_the_dag_was_made_counts() -> None:
    a, b = numbered("a"), numbered("b", "x")
    dag = DAG()
    a >> b
    assert dag.run()["b"] == ("b", ("a",))


# Wiring


def test_every_way_of_wiring() -> None:
    a, b, c, d = (numbered(name) for name in "abcd")
    assert (a >> b) is b
    assert (b >> [c, d]) == [c, d]
    assert ([c, d] >> numbered("e")).name == "e"
    f, g = numbered("f"), numbered("g")
    assert (g << f) is f
    assert ([c, d] << g) is g
    h = numbered("h")
    assert (h << [f, g]) == [f, g]
    drawn = DAG("wired").visualize()
    assert "b ← a" in drawn and re.search(r"c ← b, g", drawn) and re.search(r"e ← c, d", drawn)
    assert re.search(r"h ← f, g", drawn) and re.search(r"g ← f", drawn)


def test_a_chain_with_a_list_in_the_middle() -> None:
    extract, transform, load, notify = map(numbered, ("extract", "transform", "load", "notify"))
    validate, enrich = numbered("validate"), numbered("enrich")
    extract >> transform >> [validate, enrich] >> load >> notify
    assert "load      ← validate, enrich" in DAG().visualize()


def test_wiring_twice_is_wiring_once() -> None:
    a, b = numbered("a"), numbered("b", "x", "y=None")
    a >> b
    a >> b
    assert DAG().run()["b"] == ("b", ("a",), None)


def test_wiring_something_else_is_refused() -> None:
    with pytest.raises(GraphError, match="is no task"):
        numbered("a") >> 3  # type: ignore[operator]


def test_a_circle_is_spelled_out() -> None:
    a, b, c = numbered("a"), numbered("b"), numbered("c")
    a >> b >> c >> a
    with pytest.raises(DAGCycleError) as caught:
        DAG().run()
    assert isinstance(caught.value, FlowkitError) and isinstance(caught.value, CycleError)
    around = caught.value.cycle
    # Wherever it begins, each comes before the next.
    begin = around.index("a") % 3
    assert [*around[begin:-1], *around[:begin], "a"] == ["a", "b", "c", "a"]
    assert " → ".join(around) in str(caught.value)


# What goes where


def test_results_go_to_the_parameters_that_are_named_so_from_any_ancestor() -> None:
    first, second = numbered("first"), numbered("second", "first")
    third = numbered("third", "first", "second")
    first >> second >> third
    assert DAG().run()["third"] == ("third", ("first",), ("second", ("first",)))


def test_the_rest_goes_by_position_in_the_order_of_the_wiring() -> None:
    a, b, c = numbered("a"), numbered("b"), numbered("c")
    merged = numbered("merged", "x", "b", "y", "z='-'")
    [c, b, a] >> merged
    assert DAG().run()["merged"] == ("merged", ("c",), ("b",), ("a",), "-")


def test_results_that_no_parameter_takes_are_dropped_and_still_waited_for() -> None:
    a, b = numbered("a"), numbered("b")
    a >> b
    assert DAG().run() == {"a": ("a",), "b": ("b",)}
    assert "b ← a" in DAG().visualize()


def test_a_name_that_is_no_ancestor_gives_nothing() -> None:
    numbered("other")
    a, b = numbered("a"), numbered("b", "other=7", "x=8")
    a >> b
    assert DAG().run()["b"] == ("b", ("a",), 8)


def test_surplus_goes_to_star_args_and_named_ones_to_star_star() -> None:
    @task
    def gathers(x: Any, *rest: Any) -> Any:
        return (x, rest)

    @task
    def names(**given: Any) -> Any:
        return given

    a, b, c = numbered("a"), numbered("b"), numbered("c")
    [a, b, c] >> gathers
    [a, b] >> names
    results = DAG().run()
    assert results["gathers"] == (("a",), (("b",), ("c",)))
    assert results["names"] == {"a": ("a",), "b": ("b",)}


def test_a_required_parameter_that_gets_nothing_is_refused_before_anything_runs(
    perfect_mock: Recorder,
) -> None:
    a = numbered("a")
    b = numbered("b", "x", "y")
    a >> b
    with pytest.raises(GraphError, match="(?=.*'b')(?=.*'y')") as caught:
        DAG().run()
    assert "tasks=" in str(caught.value.__notes__)
    assert perfect_mock.runs == []


def test_two_tasks_of_one_name_are_refused() -> None:
    numbered("same")
    numbered("same")
    with pytest.raises(GraphError, match="same.*two tasks"):
        DAG().run()


def test_a_parameter_that_takes_no_name_gets_the_task_of_its_name() -> None:
    @task
    def late(b: Any, /, other: int = 0) -> Any:
        return b

    a, b = numbered("a"), numbered("b")
    [a, b] >> late
    assert DAG().run()["late"] == ("b",)


# Skipping


def test_a_skipped_task_passes_none_and_has_no_entry() -> None:
    @task
    def check() -> int:
        return 1500

    @task(when=lambda x: x > 1000)
    def large(value: int) -> str:
        return f"large {value}"

    @task(when=lambda x: x <= 1000)
    def small(value: int) -> str:
        return f"small {value}"

    after = numbered("after", "large", "small")
    check >> [large, small]
    [large, small] >> after
    assert DAG().run() == {
        "check": 1500,
        "large": "large 1500",
        "after": ("after", "large 1500", None),
    }


def test_what_tests_a_skipped_task_has_nothing_to_test(perfect_mock: Recorder) -> None:
    @task
    def check() -> int:
        return 1

    @task(when=lambda x: x > 1000)
    def first(x: int) -> int:
        return x

    @task(when=lambda x: x > 1000)
    def second(x: int) -> int:
        return x

    check >> first >> second
    assert DAG().run() == {"check": 1}
    assert perfect_mock.run.task("second").state == TaskState.SKIPPED


def test_when_tests_the_first_wired_result_wherever_it_goes() -> None:
    a, b = numbered("a"), numbered("b")
    seen = []

    def wanted(value: Any) -> bool:
        seen.append(value)
        return True

    @task(when=wanted)
    def both(b: Any, a: Any) -> Any:
        return (b, a)

    [a, b] >> both
    assert DAG().run()["both"] == (("b",), ("a",))
    assert seen == [("a",)]


# Failing


def test_a_failure_is_raised_at_once_with_its_cause(perfect_mock: Recorder) -> None:
    a = numbered("a")

    @task
    def breaks(x: Any) -> None:
        raise KeyError("no such column")

    never = numbered("never", "x")
    a >> breaks >> never
    with pytest.raises(TaskExecutionError, match="task 'breaks' failed: KeyError") as caught:
        DAG().run()
    assert caught.value.task == "breaks" and isinstance(caught.value.__cause__, KeyError)
    run = perfect_mock.run
    assert run.state == TaskState.FAILED
    assert [(one.name, one.state) for one in run.tasks] == [
        ("a", TaskState.COMPLETED),
        ("breaks", TaskState.FAILED),
        ("never", TaskState.CANCELLED),
    ]
    assert run.error is not None and run.error["type"] == "TaskExecutionError"


def test_a_task_that_is_not_crucial_lets_the_rest_go_on(perfect_mock: Recorder) -> None:
    @task(crucial_pass=False)
    def breaks() -> None:
        raise KeyError("no such column")

    after = numbered("after", "breaks")
    breaks >> after
    assert DAG().run()["after"] == ("after", None)
    assert perfect_mock.run.state == TaskState.COMPLETED


def test_retries_are_attempts_of_one_task_run(perfect_mock: Recorder) -> None:
    tries = []

    @task(retries=3, delay=0.001)
    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError(len(tries))
        return len(tries)

    assert DAG().run() == {"flaky": 3}
    assert [(one.name, one.attempt) for one in perfect_mock.run.tasks] == [("flaky", 3)]


def test_errors_are_of_one_family() -> None:
    for kind in (TaskExecutionError, DAGCycleError, TaskNotFoundError):
        assert issubclass(kind, FlowkitError) and issubclass(kind, PerfectError)
    assert issubclass(TaskNotFoundError, NotFound)


# The step by step builder


def test_steps_follow_one_another() -> None:
    fetch_user, fetch_orders = numbered("fetch_user"), numbered("fetch_orders")
    fetch_more = numbered("fetch_more")
    combine = numbered("combine", "fetch_user", "fetch_orders", "fetch_more")
    pipeline = Flow("p", max_workers=5)
    assert pipeline.add(fetch_user) is pipeline
    assert pipeline.branch(fetch_orders, fetch_more) is pipeline
    assert pipeline.merge(combine) is pipeline
    assert pipeline.run()["combine"] == (
        "combine",
        ("fetch_user",),
        ("fetch_orders",),
        ("fetch_more",),
    )
    assert pipeline.visualize().splitlines() == [
        "p (4 tasks)",
        "  fetch_user",
        "  fetch_orders ← fetch_user",
        "  fetch_more   ← fetch_user",
        "  combine      ← fetch_user, fetch_orders, fetch_more",
    ]


def test_branching_and_merging_need_a_task_before_them() -> None:
    with pytest.raises(ValueError, match="add a task before branching"):
        Flow().branch(numbered("a"))
    with pytest.raises(ValueError, match="before merging"):
        Flow().merge(numbered("b"))
    with pytest.raises(ValueError, match="branch_tasks=.*is empty"):
        Flow().add(numbered("c")).branch()


def test_what_is_no_task_or_is_there_already_is_refused() -> None:
    a = numbered("a")
    with pytest.raises(ConfigurationError, match="is no task"):
        Flow().add(print)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is in 'flow' already"):
        Flow().add(a).add(a)
    assert Flow().add(a).add(a.copy(name="again")).run() == {"a": ("a",), "again": ("a",)}


def test_a_flow_knows_nothing_of_the_wires() -> None:
    a, b, c = numbered("a"), numbered("b"), numbered("c")
    a >> b >> c
    assert list(Flow().add(c).add(a).run()) == ["c", "a"]


# Arguments


@pytest.mark.parametrize("kind", [DAG, Flow])
def test_wrong_arguments_are_named(kind: Any) -> None:
    for arguments, named in (
        ({"name": ""}, "name="),
        ({"name": 3}, "name=3"),
        ({"max_workers": 0}, "max_workers=0"),
        ({"max_workers": "4"}, "max_workers='4'"),
        ({"tags": 3}, "tags=3"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(named)):
            kind(**arguments)
    a = numbered("a")
    with pytest.raises(ConfigurationError, match="executor='fast'.*\"thread\""):
        Flow().add(a).run(executor="fast")
    for configuration in ("x" * 201, None):
        with pytest.raises(ConfigurationError, match="configuration="):
            Flow().add(a).run(configuration=configuration)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="resume="):
        Flow().add(a).run(resume="state.json")  # type: ignore[arg-type]


def test_executors_by_name_and_by_object() -> None:
    numbered("a")
    for executor in ("thread", "local", LocalExecutor()):
        assert DAG().run(executor) == {"a": ("a",)}


def test_get_task() -> None:
    a = numbered("a")
    assert DAG().get_task("a") is a and Flow().add(a).get_task("a") is a
    with pytest.raises(TaskNotFoundError, match="no task 'x' .*'flow' has: a"):
        Flow().add(a).get_task("x")


def test_task_is_the_one_task_with_all_its_arguments() -> None:
    assert Task is TheTask
    assert inspect.signature(task) == inspect.signature(perfect.task)
    made = task("Named", retries=2)(lambda: 1)
    assert (made.name, made.retries) == ("Named", 2)
    assert task(lambda: 1).name == "<lambda>"


# Resuming


class Source:
    """Tasks that count their calls, the last of which fails until it is told not to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails = True

    def pipeline(self, rows: Any = (1, 2)) -> Flow:
        @perfect.task
        def extract() -> Any:
            self.calls.append("extract")
            return rows

        @perfect.task
        def transform(extract: Any) -> int:
            self.calls.append("transform")
            return sum(extract)

        @perfect.task(when=lambda total: total > 1000)
        def unusual(total: int) -> int:
            self.calls.append("unusual")
            return total

        @perfect.task
        def load(transform: int, unusual: Any) -> str:
            self.calls.append("load")
            if self.fails:
                raise ConnectionError("no database")
            return f"loaded {transform}"

        return Flow("resumed").add(extract).add(transform).add(unusual).add(load)


def test_a_failed_pipeline_goes_on_where_it_stopped(perfect_mock: Recorder) -> None:
    state = StateManager()
    source = Source()
    pipeline = source.pipeline()
    with pytest.raises(TaskExecutionError):
        pipeline.run(resume=state)
    assert source.calls == ["extract", "transform", "load"]
    source.calls.clear()
    source.fails = False
    assert pipeline.run(resume=state) == {"extract": (1, 2), "transform": 3, "load": "loaded 3"}
    assert source.calls == ["load"]
    reused = perfect_mock.run.task("extract")
    assert reused.state == TaskState.COMPLETED and perfect_mock.run.state == TaskState.COMPLETED
    assert perfect_mock.run.task("unusual").state == TaskState.SKIPPED
    # After a success everything runs again.
    source.calls.clear()
    pipeline.run(resume=state)
    assert source.calls == ["extract", "transform", "load"]
    assert state.get_all() == {}


def test_resuming_from_a_file_in_another_run(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    source = Source()
    with pytest.raises(TaskExecutionError):
        source.pipeline([1, 2]).run(resume=StateManager(path))
    assert json.loads(path.read_text())
    source.calls.clear()
    source.fails = False
    assert source.pipeline([1, 2]).run(resume=StateManager(path))["load"] == "loaded 3"
    assert source.calls == ["load"]


def test_what_a_file_can_not_hold_runs_again_with_all_that_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source()
    with pytest.raises(TaskExecutionError):
        source.pipeline(range(3)).run(resume=StateManager(tmp_path / "state.json"))
    assert "resumed/extract" in caplog.text and "will run again" in caplog.text
    source.calls.clear()
    source.fails = False
    source.pipeline(range(3)).run(resume=StateManager(tmp_path / "state.json"))
    assert source.calls == ["extract", "transform", "load"]


# Lines


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    top = logging.getLogger("perfect.flowkit")
    handlers, level, propagate = list(top.handlers), top.level, top.propagate
    yield io.StringIO()
    top.handlers, top.propagate = handlers, propagate
    top.setLevel(level)


def test_nothing_is_told_unless_it_was_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    assert not logs.is_configured()
    numbered("a")
    DAG().run()
    assert capfd.readouterr() == ("", "")


def test_lines_of_a_pipeline(lines: io.StringIO, perfect_mock: Recorder) -> None:
    configure_logging(stream=lines)
    a = numbered("a")

    @task(when=lambda x: False)
    def unwanted(a: Any) -> None: ...

    @task
    def breaks() -> None:
        raise ValueError("bad schema")

    a >> unwanted >> breaks
    with pytest.raises(TaskExecutionError):
        DAG().run("local")
    told = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in lines.getvalue().splitlines()]
    assert told == [
        '[INFO] Starting task "a"...',
        '[SUCCESS] Task "a" completed successfully.',
        '[WARN] Task "unwanted" skipped: not wanted: `when` says no',
        '[INFO] Starting task "breaks"...',
        '[ERROR] Task "breaks" failed: ValueError: bad schema',
        "[SYSTEM] Worker released.",
    ]
    # They stand in the run's log, too.
    assert any('Starting task "a"' in line for line in perfect_mock.run.task("a").logs)


def test_json_lines_of_a_pipeline(lines: io.StringIO) -> None:
    configure_logging(LogLevel.SUCCESS, json_output=True, stream=lines)
    numbered("a")
    DAG().run()
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(one["level"], one["message"]) for one in told] == [
        ("SUCCESS", 'Task "a" completed successfully.'),
        ("SYSTEM", "Worker released."),
    ]
