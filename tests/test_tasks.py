"""What a task is, and which tasks a flow's code is seen to call."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

import tests.support
from perfect import testing
from perfect.errors import ConfigurationError
from perfect.schedules import CronSchedule, IntervalSchedule
from perfect.sdk import flow, get_registry, task
from perfect.definitions import TaskDefinition, TaskResult, WorkflowRegistry
from perfect.flows import FlowDefinition, tasks_of
from perfect.tasks import Task
from tests.support import steps
from tests.support.steps import MoreSteps, Steps, extract, load, look, ok, only_named


def names(function: Callable[..., Any]) -> list[str]:
    return [found.name for found in tasks_of(function)]


# Which tasks a function's code names


def test_tasks_stand_in_the_order_of_first_use() -> None:
    inner = task(lambda: None, name="inner")

    def code() -> None:
        load(extract())
        inner()
        ok()
        extract()

    assert names(code) == ["load", "extract", "inner", "ok"]


def test_a_name_that_contains_another_is_another() -> None:
    def code() -> None:
        look()

    assert names(code) == ["look"]


def test_names_in_text_comments_and_docstrings_do_not_count() -> None:
    def code() -> str:
        """Runs only_named()."""
        # only_named()
        extract()
        return "only_named()" + f"{1} only_named"

    assert only_named.name not in names(code)
    assert names(code) == ["extract"]


def test_attributes_of_modules_and_classes() -> None:
    def code() -> None:
        steps.load(steps.extract())
        tests.support.steps.look()
        Steps.clean(Steps())
        Steps.check()
        Steps.name_of()

    assert names(code) == ["load", "extract", "look", "clean", "check", "name_of"]


def test_tasks_that_a_class_inherits() -> None:
    def code() -> None:
        MoreSteps.check()

    assert names(code) == ["check"]


def test_an_attribute_of_something_else_does_not_count() -> None:
    def code(response: Any) -> None:
        steps.extract()
        if response.ok:
            response.load()

    assert names(code) == ["extract"]


def test_a_parameter_or_local_hides_the_global() -> None:
    def parameter(extract: Callable[[], int]) -> int:
        return extract()

    def local() -> int:
        load = len
        return load("")

    def hidden_in_a_nested_function() -> int:
        look = len

        def nested() -> int:
            return look("")

        return nested()

    assert names(parameter) == names(local) == names(hidden_in_a_nested_function) == []


def test_nested_functions_lambdas_comprehensions_and_classes() -> None:
    closed_over = task(lambda: None, name="closed over")

    def code() -> None:
        def nested() -> None:
            def deeper() -> None:
                closed_over()

            deeper()
            ok()

        class Local:
            value = look()

        nested()
        [load(i) for i in range(3)]
        (lambda: extract())()

    assert names(code) == ["closed over", "ok", "look", "load", "extract"]


def test_a_closure_that_is_not_filled_yet() -> None:
    def code() -> None:
        later()

    assert names(code) == []
    later = task(lambda: None, name="later")
    assert names(code) == ["later"]


def test_a_global_that_is_redefined_is_seen_anew() -> None:
    space: dict[str, Any] = {"step": extract}
    exec("def code(): step()", space)
    assert names(space["code"]) == ["extract"]
    space["step"] = load
    assert names(space["code"]) == ["load"]
    del space["step"]
    assert names(space["code"]) == []


def test_a_decorated_function_is_looked_through() -> None:
    def decorated(function: Callable[[], None]) -> Callable[[], None]:
        @functools.wraps(function)
        def wrapper() -> None:
            function()

        return wrapper

    @decorated
    def code() -> None:
        extract()

    assert names(code) == ["extract"]


def test_conditionals_loops_and_handlers() -> None:
    def code(flag: bool) -> None:
        try:
            while flag:
                extract()
        except ValueError:
            load()
        finally:
            ok() if flag else look()

    assert names(code) == ["extract", "load", "ok", "look"]


def test_async_functions() -> None:
    async def code() -> None:
        await asyncio.gather(asyncio.to_thread(extract), asyncio.to_thread(load))

    assert names(code) == ["extract", "load"]


def test_what_has_no_code_names_nothing() -> None:
    assert names(len) == names(functools.partial(print)) == names(int) == []


def test_a_flow_is_no_task_and_is_not_searched() -> None:
    def code() -> None:
        steps.another_flow()

    assert names(code) == []


# What a task is


def test_a_task_is_called_like_its_function() -> None:
    @task
    def add(a: int, b: int = 2, *, c: int = 0) -> int:
        """Add up.

        All of them."""
        return a + b + c

    assert add(1) == 3 and add(1, 5, c=4) == 10 and add.run(1) == 3
    assert add.__name__ == "add" and add.__doc__ is not None and add.__wrapped__ is add.func
    assert str(inspect.signature(add)) == "(a: 'int', b: 'int' = 2, *, c: 'int' = 0) -> 'int'"
    assert (add.name, add.description) == ("add", "Add up.")
    assert repr(add) == "<Task 'add'>"
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        add()  # type: ignore[call-arg]


def test_every_argument_is_kept() -> None:
    made = task(name="n", description="d", estimated_time=5, weight=7, crucial_pass=False)(len)
    assert made.definition == TaskDefinition("n", len, "d", 7, 5, False)
    assert made.definition.to_dict() == {
        "name": "n",
        "description": "d",
        "estimatedTime": 5,
        "crucialPass": False,
        "weight": 7,
    }
    assert get_registry().get_task("n") == made.definition
    assert task(len).definition == TaskDefinition(
        "len", len, "Return the number of items in a container.", None, 1000, True
    )
    assert "weight" not in task(len).definition.to_dict()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("name", value) for value in ("", "  ", "x" * 201, "\ud800", "a\0b", b"name", 3)),
        *(("description", value) for value in (3, b"text")),
        *(("estimated_time", value) for value in (-1, "fast", True, None, float("nan"), 10**400)),
        *(("weight", value) for value in (-1, "heavy", False)),
        *(("crucial_pass", value) for value in (1, "yes", None)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_wrong_argument_is_named(argument: str, value: Any) -> None:
    arguments: dict[str, Any] = {argument: value}
    with pytest.raises(ConfigurationError) as caught:
        task(**arguments)(extract.func)
    assert caught.value.argument == argument
    assert caught.value.value is value
    assert argument in str(caught.value)


async def _async_generator() -> Any:
    yield 1


@pytest.mark.parametrize("func", [3, "text", extract, classmethod(len), _async_generator])
def test_what_is_no_function_is_no_task(func: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Task(func)
    assert caught.value.argument == "func"


def test_a_task_may_be_any_callable() -> None:
    class Adder:
        """Adds."""

        def __call__(self, a: int) -> int:
            return a + 1

    assert Task(Adder())(1) == 2
    assert Task(Adder()).name == "Adder"
    partial = Task(functools.partial(max, 5))
    assert (partial(3), partial.name) == (5, "max")
    assert Task(functools.partial(asyncio.sleep, 0)).is_async


def test_attributes_of_the_function_do_not_take_the_place_of_the_tasks() -> None:
    def function() -> str:
        return "mine"

    function.run = lambda: "theirs"  # type: ignore[attr-defined]
    function.name = "theirs"  # type: ignore[attr-defined]
    made = Task(function)
    assert (made(), made.run(), made.name) == ("mine", "mine", "function")


def test_a_parameter_may_be_named_self() -> None:
    made = task(lambda self: self)
    assert made(self=3) == made.run(self=3) == 3


def test_a_task_in_a_class_is_a_method() -> None:
    assert Steps().clean(rows=2) == 3
    assert MoreSteps().clean(2) == 3
    assert Steps.clean(Steps(), 2) == 3
    assert Steps.check() == Steps().check() == "checked"
    assert MoreSteps.name_of() == "MoreSteps"


def test_a_task_of_an_instance_is_asked_like_a_task() -> None:
    mine = Steps()
    assert mine.clean == mine.clean != Steps().clean
    assert hash(mine.clean) == hash(mine.clean)
    assert mine.clean.name == "clean" and mine.clean.definition == Steps.clean.definition
    assert mine.clean.copy(name="other").name == "other"
    assert mine.clean.copy(name="other")(2) == mine.clean.run(2) == 3
    assert repr(mine.clean).startswith("<bound <Task 'clean'> of ")


def test_a_task_of_an_instance_is_pickled_with_it() -> None:
    again = pickle.loads(pickle.dumps(Steps().clean))
    assert again(2) == 3


class Fetch(Task[[str], str]):
    """Fetch a page."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        super().__init__(estimated_time=7)

    def run(self, host: str) -> str:
        return f"{self.scheme}://{host}"


def test_a_subclass_writes_run() -> None:
    fetch = Fetch("https")
    assert fetch("a.b") == "https://a.b"
    assert (fetch.name, fetch.description, fetch.estimated_time) == ("Fetch", "Fetch a page.", 7)
    fetching = flow(name="fetching")(lambda: fetch("c"))
    with testing.mock() as recorder:
        assert fetching() == "https://c"
        assert [entry.name for entry in recorder.run.tasks] == ["Fetch"]


def test_a_subclass_may_be_async() -> None:
    class Later(Task[[], int]):
        async def run(self) -> int:  # type: ignore[override]
            return 5

    assert Later().is_async
    assert asyncio.run(Later()()) == 5  # type: ignore[arg-type]


def test_a_task_with_nothing_to_run_is_refused_when_called() -> None:
    with pytest.raises(ConfigurationError, match="neither a function nor a run"):
        Task()()


def test_a_task_is_pickled_by_name_as_functions_are() -> None:
    assert pickle.loads(pickle.dumps(extract)) is extract
    again = pickle.loads(pickle.dumps(Fetch("ftp")))
    assert again("x") == "ftp://x"


def test_a_task_can_be_handed_to_a_process_pool() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert list(pool.map(load, [1, 2])) == [1, 2]


# Results, definitions, registry


def test_a_result_as_a_dictionary() -> None:
    assert TaskResult(True).to_dict() == {"passed": True, "note": "", "table": []}
    full = TaskResult(passed=False, note="n", table=[{"a": 1}])
    assert full.to_dict() == {"passed": False, "note": "n", "table": [{"a": 1}]}
    assert TaskResult(True).table is not TaskResult(True).table


def test_a_flow_as_it_is_registered() -> None:
    definition = FlowDefinition(
        "n", len, "d", [extract.definition], {"a": "b"}, CronSchedule("0 0 * * *")
    )
    assert definition.to_dict() == {
        "name": "n",
        "description": "d",
        "tags": {"a": "b"},
        "tasks": [extract.definition.to_dict()],
        "schedule": "0 0 * * *",
        "parameters": {
            "type": "object",
            "properties": {"obj": {}},
            "required": ["obj"],
            "additionalProperties": False,
        },
    }
    assert FlowDefinition("n", len).to_dict()["schedule"] is None
    definition.schedule = IntervalSchedule(60)
    assert definition.to_dict()["schedule"] == "every 60 s"


def test_the_registry_knows_by_name() -> None:
    registry = WorkflowRegistry()
    first, second = FlowDefinition("f", len), FlowDefinition("f", max)
    registry.register_flow(first)
    registry.register_flow(second)
    registry.register_task(extract.definition)
    assert registry.get_flow("f") is second and registry.get_flow("g") is None
    assert registry.get_task("extract") == extract.definition and registry.get_task("g") is None
    registry.clear()
    assert not registry.flows and not registry.tasks
    assert get_registry() is get_registry()
