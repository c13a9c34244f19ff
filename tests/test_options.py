"""The options of a task: what they take, what they are called, and what `copy` makes of them."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from perfect.caching import TaskCache
from perfect.errors import ConfigurationError
from perfect.outcomes import Failed, State, Success
from perfect.store import StateManager
from perfect.tasks import Task, task

HALF_MINUTE = timedelta(seconds=30)


def function(value: Any = None) -> Any:
    """Give it back."""
    return value


def handler(task: Any, old: State, new: State) -> None: ...


def facts(made: Task[..., Any]) -> tuple[Any, ...]:
    return made.retries, made.delay, made.backoff, made.jitter


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (0, 1.0, 2.0, 0.1)),
        ({"retries": 3}, (3, 1.0, 2.0, 0.1)),
        ({"max_retries": 3}, (3, 1.0, 2.0, 0.1)),
        ({"retries": 3, "max_retries": 3}, (3, 1.0, 2.0, 0.1)),
        ({"delay": 5}, (0, 5.0, 2.0, 0.1)),
        ({"delay": HALF_MINUTE, "backoff": 1.5}, (0, 30.0, 1.5, 0.1)),
        ({"retry_delay": 5}, (0, 5.0, 1.0, 0.0)),
        ({"retry_delay": HALF_MINUTE, "backoff": 2.0}, (0, 30.0, 2.0, 0.0)),
        ({"retry_delay": 5, "jitter": 0.5}, (0, 5.0, 1.0, 0.5)),
        ({"delay": 5, "retry_delay": 5}, (0, 5.0, 1.0, 0.0)),
        ({"jitter": 0}, (0, 1.0, 2.0, 0.0)),
        ({"jitter": 1}, (0, 1.0, 2.0, 1.0)),
    ],
    ids=repr,
)
def test_retries_and_their_pauses(given: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert facts(Task(function, **given)) == facts(task(**given)(function)) == expected


def test_what_a_call_has_to_look_at() -> None:
    """A plain task is called as directly as can be: whatever makes it more must say so."""
    assert Task(function).is_plain
    # They do nothing by themselves.
    assert Task(function, delay=3, backoff=4, jitter=0, retry_on=ValueError).is_plain
    assert Task(function, trigger=all).is_plain
    for option in (
        {"retries": 1},
        {"when": bool},
        {"timeout": 1},
        {"cache": StateManager()},
        {"state_handlers": [handler]},
        {"on_failure": print},
    ):
        made = Task(function, **option)  # type: ignore[arg-type]
        assert made.is_guarded and not made.is_plain


def test_a_cache_is_what_keeps_results(tmp_path: Any) -> None:
    cache, store = TaskCache(), StateManager()
    assert Task(function, cache=cache).cache is cache
    made = Task(function, cache=store).cache
    assert made is not None and made.store is store
    assert Task(function, cache=False).cache is None
    assert isinstance(Task(function, cache=True).cache, TaskCache)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("retries", value) for value in (-1, True, 1.5, "3", None, math.nan)),
        *(("max_retries", value) for value in (-1, True, 1.5, "3")),
        *(("delay", value) for value in (-1, "1", True, None, math.inf, math.nan, 4e7)),
        *(("delay", timedelta(seconds=-1)),),
        *(("retry_delay", value) for value in (-1, "1", False, math.nan)),
        *(("backoff", value) for value in (0.5, "2", None, math.inf, math.nan)),
        *(("jitter", value) for value in (-0.1, 1.1, "0", True)),
        *(("timeout", value) for value in (0, -1, "1", math.nan, timedelta(0))),
        *(("retry_on", value) for value in (3, "ValueError", [ValueError, 3], int, [int])),
        *(("when", value) for value in (3, "x", True)),
        *(("trigger", value) for value in (3, "all_successful")),
        *(("cache", value) for value in (3, "file.json", dict)),
        *(("state_handlers", value) for value in (3, handler, [handler, 3], None)),
        *(("on_failure", value) for value in (3, [handler])),
    ],
    ids=lambda value: repr(value)[:20].partition(" at ")[0],
)
def test_a_wrong_option_is_named(argument: str, value: Any) -> None:
    given = {argument: value}
    made = Task(function)
    for attempt in (
        lambda: Task(function, **given),
        lambda: task(**given)(function),
        lambda: made.copy(**given),  # type: ignore[misc]
    ):
        with pytest.raises(ConfigurationError) as caught:
            attempt()
        assert caught.value.argument == argument
        assert argument in str(caught.value)
    assert made.is_plain  # a copy that is refused leaves no trace


@pytest.mark.parametrize(
    "given", [{"retries": 2, "max_retries": 3}, {"delay": 2, "retry_delay": 3}], ids=repr
)
def test_two_names_of_one_option_may_not_say_different_things(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="says else"):
        Task(function, **given)


@pytest.mark.parametrize(
    "given", [{"retries": 1}, {"timeout": 1}, {"cache": StateManager()}], ids=lambda one: [*one][0]
)
def test_a_generator_has_one_attempt_without_limit(given: dict[str, Any]) -> None:
    def rows() -> Iterator[int]:
        yield 1

    (name,) = given
    for attempt in (lambda: Task(rows, **given), lambda: Task(rows).copy(**given)):
        with pytest.raises(ConfigurationError, match="is a generator") as caught:
            attempt()
        assert caught.value.argument == name


# Copies


def test_a_copy_is_another_task_that_does_the_same() -> None:
    made = Task(function, retries=2, delay=7, when=bool, weight=3)
    copy = made.copy()
    assert copy is not made and type(copy) is Task and copy != made
    assert (copy.func, copy.name, copy.when, copy.weight) == (function, "function", bool, 3)
    assert facts(copy) == facts(made) and copy.is_guarded
    assert (copy(1), copy.__name__, copy.__doc__) == (1, "function", "Give it back.")


@pytest.mark.parametrize(
    ("before", "changes", "expected"),
    [
        ({}, {"retries": 3}, (3, 1.0, 2.0, 0.1)),
        ({"retries": 2}, {"max_retries": 3}, (3, 1.0, 2.0, 0.1)),
        ({"max_retries": 2}, {"retries": 0}, (0, 1.0, 2.0, 0.1)),
        ({"retries": 2}, {"retry_delay": 5}, (2, 5.0, 1.0, 0.0)),
        ({"retries": 2, "retry_delay": 5}, {"retry_delay": 6}, (2, 6.0, 1.0, 0.0)),
        ({"retries": 2, "retry_delay": 5}, {"delay": 6}, (2, 6.0, 1.0, 0.0)),
        ({"retries": 2, "retry_delay": 5}, {"backoff": 3}, (2, 5.0, 3.0, 0.0)),
        ({"delay": 5, "backoff": 3, "jitter": 0.5}, {"retries": 1}, (1, 5.0, 3.0, 0.5)),
        ({"retries": 2}, {"name": "other"}, (2, 1.0, 2.0, 0.1)),
    ],
    ids=repr,
)
def test_a_copy_changes_what_is_said_and_nothing_else(
    before: dict[str, Any], changes: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    made = Task(function, **before)
    kept = facts(made)
    copy = made.copy(**changes)  # type: ignore[misc]
    assert facts(copy) == expected and facts(made) == kept
    assert copy.is_guarded is bool(expected[0])


def test_a_copy_takes_what_a_task_takes() -> None:
    made = Task(function, when=bool, timeout=3, cache=StateManager(), weight=2)
    changed = made.copy(
        name="other",
        description="d",
        estimated_time=7,
        crucial_pass=False,
        when=None,
        timeout=None,
        cache=None,
        weight=None,
        trigger=all,
    )
    assert (changed.name, changed.description, changed.estimated_time) == ("other", "d", 7)
    assert (changed.crucial_pass, changed.weight, changed.trigger) == (False, None, all)
    assert (changed.when, changed.timeout, changed.cache) == (None, None, None)
    assert changed.is_plain and made.is_guarded
    assert changed.definition.to_dict()["name"] == "other"
    for wrong in ({"name": ""}, {"estimated_time": -1}, {"crucial_pass": 1}, {"weight": "x"}):
        with pytest.raises(ConfigurationError) as caught:
            made.copy(**wrong)  # type: ignore[arg-type]
        assert caught.value.argument in wrong
    with pytest.raises(TypeError, match="unexpected keyword argument 'retrys'"):
        made.copy(retrys=3)  # type: ignore[call-arg]


def test_handlers_and_the_notification_are_copied_apart() -> None:
    told: list[str] = []

    def notifying(text: str) -> Any:
        return lambda task, state: told.append(text)

    made = Task(function, state_handlers=[handler], on_failure=notifying("first"))
    other = made.copy(on_failure=notifying("second"))
    silent = made.copy(on_failure=None)
    without = made.copy(state_handlers=[])
    assert handler in other.state_handlers and handler in silent.state_handlers
    assert len(silent.state_handlers) == 1 and handler not in without.state_handlers
    for one in (made, other, silent, without):
        for call in one.state_handlers:
            call(one, Success(), Success())
            call(one, Success(), Failed())
    assert told == ["first", "second", "first"]


class Greet(Task[[str], str]):
    """Greet somebody."""

    def __init__(self, greeting: str, **options: Any) -> None:
        self.greeting = greeting
        super().__init__(**options)

    def run(self, name: str) -> str:
        return f"{self.greeting}, {name}"


def test_a_copy_of_a_subclass_keeps_its_attributes() -> None:
    made = Greet("Hello", retries=1)
    copy = made.copy(retries=3, name="Greeting")
    assert type(copy) is Greet and copy("you") == copy.run("you") == "Hello, you"
    assert (copy.retries, copy.name, copy.description) == (3, "Greeting", "Greet somebody.")
    copy.greeting = "Bye"  # type: ignore[attr-defined]
    assert copy("you") == "Bye, you" and made("you") == "Hello, you"


# Pickling

at_the_top = task(retries=2, delay=0)(function)


@task
def named(value: int) -> int:
    return value + 1


renamed = named.copy(name="renamed", retries=2, retry_on=ValueError)
again = renamed.copy(timeout=5)


def again_of(made: Task[..., Any]) -> Task[..., Any]:
    back = pickle.loads(pickle.dumps(made))
    assert isinstance(back, Task)
    return back


def test_a_copy_is_pickled_as_what_it_was_copied_from_and_how() -> None:
    assert again_of(named) is named
    back = again_of(renamed)
    assert (back.name, back.retries, back.func, back(1)) == ("renamed", 2, named.func, 2)
    back = again_of(again)
    assert (back.name, back.retries, back.timeout, back(1)) == ("renamed", 2, 5.0, 2)


def test_a_subclass_is_pickled_with_its_options_and_without_its_neighbours() -> None:
    made = Greet("Hello", retries=2, retry_on=(ValueError, KeyError), on_failure=print, timeout=3)
    neighbour = Task(lambda: None, name="can't be pickled")
    neighbour >> made >> named
    back = again_of(made)
    assert back("you") == "Hello, you" and facts(back) == facts(made)
    assert back.timeout == 3.0
    assert back.retry_on is not None and back.retry_on(KeyError()) and not back.retry_on(OSError())
    assert "wires" not in vars(back)
    assert again_of(made.copy(retries=5)).retries == 5
