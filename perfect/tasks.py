"""What a task is, what a flow is made of, and where both are listed."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from functools import partial, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

from perfect.context import call_plainly, find_scope
from perfect.errors import ConfigurationError
from perfect.text import clean
from perfect.schedules import CronSchedule

P = ParamSpec("P")
R = TypeVar("R")

# Flags of a code object, as in `inspect` (CO_COROUTINE, CO_GENERATOR, CO_ASYNC_GENERATOR).
COROUTINE, GENERATOR, ASYNC_GENERATOR = 0x80, 0x20, 0x200

LONGEST_NAME = 200  # characters, the protocol's limit for names and tags
MOST_TAGS = 50


class _Facts:
    """Named facts that compare and print by value.

    Not a dataclass: importing `dataclasses` takes a third of the time that importing the decorators may take.
    """

    __match_args__: tuple[str, ...] = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__match_args__)

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__name__}({facts})"


class TaskResult(_Facts):
    """What a task wants shown of its outcome.

    Attributes:
        passed: False makes the task FAILED.
        note: one line or more of text.
        table: rows, each a mapping of column to value.
    """

    __match_args__ = ("passed", "note", "table")

    def __init__(
        self, passed: bool, note: str = "", table: list[dict[str, Any]] | None = None
    ) -> None:
        self.passed = passed
        self.note = note
        self.table = [] if table is None else table

    def to_dict(self) -> dict[str, Any]:
        """The result as it is: ``{"passed": …, "note": …, "table": […]}``."""
        return {"passed": self.passed, "note": self.note, "table": self.table}


class TaskDefinition(_Facts):
    """A task as a flow lists it. Times are ms."""

    __match_args__ = ("name", "func", "description", "weight", "estimated_time", "crucial_pass")

    def __init__(
        self,
        name: str,
        func: Callable[..., Any],
        description: str = "",
        weight: int | None = None,
        estimated_time: int = 1000,
        crucial_pass: bool = True,
    ) -> None:
        self.name = name
        self.func = func
        self.description = description
        self.weight = weight
        self.estimated_time = estimated_time
        self.crucial_pass = crucial_pass

    def to_dict(self) -> dict[str, Any]:
        """The task as it is registered."""
        body: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "estimatedTime": self.estimated_time,
            "crucialPass": self.crucial_pass,
        }
        if self.weight is not None:
            body["weight"] = self.weight
        return body


class FlowDefinition(_Facts):
    """A flow as it is registered.

    Attributes:
        tasks: default: the ones its code is seen to call, looked for when first asked.
    """

    __match_args__ = ("name", "func", "description", "tasks", "tags", "schedule")

    def __init__(
        self,
        name: str,
        func: Callable[..., Any],
        description: str = "",
        tasks: list[TaskDefinition] | None = None,
        tags: dict[str, str] | None = None,
        schedule: CronSchedule | None = None,
    ) -> None:
        self.name = name
        self.func = func
        self.description = description
        self.tags = {} if tags is None else tags
        self.schedule = schedule
        self._tasks = tasks

    @property
    def is_async(self) -> bool:
        """Whether it is an ``async def``."""
        return code_kind(self.func) == COROUTINE

    @property
    def tasks(self) -> list[TaskDefinition]:
        if self._tasks is None:
            self.find_tasks()
        return self._tasks or []

    @tasks.setter
    def tasks(self, tasks: list[TaskDefinition]) -> None:
        self._tasks = tasks

    def find_tasks(self) -> None:
        """Look (again) for the tasks that the flow's code calls."""
        self._tasks = [found.definition for found in tasks_of(self.func)]

    def to_dict(self) -> dict[str, Any]:
        """The registration body (PROTOCOL part 1)."""
        return {
            "name": self.name,
            "description": self.description,
            "tags": dict(self.tags),
            "tasks": [task.to_dict() for task in self.tasks],
            "schedule": None if self.schedule is None else str(self.schedule),
        }


class Task(Generic[P, R]):
    """A function whose calls are seen: called inside a flow, each call is a task run of it.

    Give it a function, or subclass it and write ``run``.

    Args:
        func: the function; may be ``async def``.
        name: default: the function's name.
        description: default: the first line of its docstring.
        estimated_time: how long it is expected to take, in ms, for progress.
        weight: its share of the flow's progress, relative to the other tasks' (default: the estimate).
        crucial_pass: whether its failure fails the flow.

    Raises:
        ConfigurationError: an argument is of the wrong type or out of range; it says which.
    """

    __name__: str

    def __init__(
        self,
        func: Callable[P, R] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        estimated_time: int = 1000,
        weight: int | None = None,
        crucial_pass: bool = True,
    ) -> None:
        if func is not None and not callable(func):
            raise ConfigurationError("func", func, "is not a function")
        if isinstance(func, Task):
            raise ConfigurationError("func", func, "is a task already")
        body: Any = func if func is not None else getattr(type(self), "run")
        while isinstance(body, partial):
            body = body.func
        kind = code_kind(body)
        if kind == ASYNC_GENERATOR:
            raise ConfigurationError(
                "func", func or body, "is an async generator; let the task return a list"
            )
        if func is not None:
            # Not its attributes: one named `run` or `name` would take the place of ours.
            update_wrapper(self, func, updated=())
        self.func = func
        default_name = type(self).__name__ if func is None else getattr(body, "__name__", None)
        self.name = check_name(
            "name", default_name or type(body).__name__ if name is None else name
        )
        doc = body.__doc__ if func is not None else type(self).__doc__
        self.description = check_text("description", first_line(doc), description)
        self.estimated_time = check_ms("estimated_time", estimated_time)
        self.weight = None if weight is None else check_ms("weight", weight)
        if not isinstance(crucial_pass, bool):
            raise ConfigurationError("crucial_pass", crucial_pass, "is neither True nor False")
        self.crucial_pass = crucial_pass
        # What a call runs, resolved once: a call costs microseconds.
        self.body: Callable[..., Any] = self.run if func is None else func
        self.is_async = kind == COROUTINE
        self.is_generator = kind == GENERATOR
        self.is_plain = not (self.is_async or self.is_generator)

    def run(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task alone: no flow, nothing reported."""
        if self.func is None:
            raise ConfigurationError(
                "func", None, f"{type(self).__name__} has neither a function nor a run() method"
            )
        return self.func(*args, **kwargs)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        scope = find_scope()
        result: R = (call_plainly if scope is None else scope.caller)(self, args, kwargs)
        return result

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Let a task stand in a class body as a method."""
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle as functions do, by name: a task can be handed to a process pool."""
        if self.func is None:
            return super().__reduce__()
        return str(getattr(self, "__qualname__", self.name))

    @property
    def definition(self) -> TaskDefinition:
        """The task as flows list it."""
        return TaskDefinition(
            self.name,
            self.body,
            self.description,
            self.weight,
            self.estimated_time,
            self.crucial_pass,
        )


class WorkflowRegistry:
    """The flows and tasks of this process, by name."""

    def __init__(self) -> None:
        self.flows: dict[str, FlowDefinition] = {}
        self.tasks: dict[str, TaskDefinition] = {}

    def register_flow(self, definition: FlowDefinition) -> None:
        """Add a flow; a later one of the same name takes its place."""
        self.flows[definition.name] = definition

    def register_task(self, definition: TaskDefinition) -> None:
        """Add a task; a later one of the same name takes its place."""
        self.tasks[definition.name] = definition

    def get_flow(self, name: str) -> FlowDefinition | None:
        """The flow of that name, or None."""
        return self.flows.get(name)

    def get_task(self, name: str) -> TaskDefinition | None:
        """The task of that name, or None."""
        return self.tasks.get(name)

    def clear(self) -> None:
        """Forget every flow and task."""
        self.flows.clear()
        self.tasks.clear()


_registry = WorkflowRegistry()


def get_registry() -> WorkflowRegistry:
    """The registry that the decorators fill."""
    return _registry


def tasks_of(function: Callable[..., Any]) -> list[Task[..., Any]]:
    """The tasks that a function's code names, in the order of first use; functions inside it count."""
    from perfect.scan import values_of  # reads byte code: `dis` and `inspect` take 5 ms

    found = {id(value): value for value in values_of(function) if isinstance(value, Task)}
    return list(found.values())


def code_kind(function: Any) -> int:
    """COROUTINE, GENERATOR or ASYNC_GENERATOR for what is defined as one, else 0."""
    while isinstance(function, (partial, types.MethodType)):
        function = function.func if isinstance(function, partial) else function.__func__
    flags: int = getattr(getattr(function, "__code__", None), "co_flags", 0)
    return flags & (COROUTINE | GENERATOR | ASYNC_GENERATOR)


def first_line(doc: str | None) -> str:
    """The first line of a docstring, or nothing."""
    return doc.strip().partition("\n")[0].strip() if doc else ""


def check_text(argument: str, default: str, value: str | None) -> str:
    """A text argument, or its default."""
    if value is None:
        return default
    if not isinstance(value, str):
        raise ConfigurationError(argument, value, "is not text")
    return clean(value)


def check_name(argument: str, value: str) -> str:
    """A name of 1 to 200 characters."""
    if not isinstance(value, str):
        raise ConfigurationError(argument, value, "is not text")
    if not value.strip():
        raise ConfigurationError(argument, value, "is empty")
    if len(value) > LONGEST_NAME:
        raise ConfigurationError(
            argument, value, f"has {len(value)} characters, more than {LONGEST_NAME}"
        )
    if clean(value) != value:
        raise ConfigurationError(argument, value, "has lone surrogates, which UTF-8 can't carry")
    return value


def check_ms(argument: str, value: int) -> int:
    """A number of milliseconds: 0 or more, up to a year."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(argument, value, "is not a number of milliseconds")
    if not 0 <= value <= 366 * 86_400_000:
        raise ConfigurationError(argument, value, "is outside 0 ms to 366 days")
    return int(value)


def check_tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    """At most 50 tags, each name and value text of at most 200 characters."""
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise ConfigurationError("tags", tags, "is not a dictionary")
    if len(tags) > MOST_TAGS:
        raise ConfigurationError("tags", tags, f"has {len(tags)} tags, more than {MOST_TAGS}")
    for name, value in tags.items():
        check_name("tags", name)
        if not isinstance(value, (str, int, float)):
            raise ConfigurationError(f"tags[{name!r}]", value, "is not text")
        if len(str(value)) > LONGEST_NAME:
            raise ConfigurationError(
                f"tags[{name!r}]", value, f"is longer than {LONGEST_NAME} characters"
            )
    return {name: clean(str(value)) for name, value in tags.items()}
