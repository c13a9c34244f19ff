"""What a task is, what a flow is made of, and where both are listed."""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

from perfect.context import call_plainly, find_scope
from perfect.errors import ConfigurationError
from perfect.jsonable import clean
from perfect.schedules import CronSchedule

P = ParamSpec("P")
R = TypeVar("R")

LONGEST_NAME = 200  # characters, the protocol's limit for names and tags
MOST_TAGS = 50


@dataclass
class TaskResult:
    """What a task wants shown of its outcome.

    Attributes:
        passed: False makes the task FAILED.
        note: one line or more of text.
        table: rows, each a mapping of column to value.
    """

    passed: bool
    note: str = ""
    table: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The result as it is: ``{"passed": …, "note": …, "table": […]}``."""
        return {"passed": self.passed, "note": self.note, "table": self.table}


@dataclass
class TaskDefinition:
    """A task as a flow lists it. Times are ms."""

    name: str
    func: Callable[..., Any]
    description: str = ""
    weight: int | None = None
    estimated_time: int = 1000
    crucial_pass: bool = True

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


@dataclass
class FlowDefinition:
    """A flow as it is registered; `tasks` are the ones its code is seen to call."""

    name: str
    func: Callable[..., Any]
    description: str = ""
    tasks: list[TaskDefinition] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    schedule: CronSchedule | None = None

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
        if inspect.isasyncgenfunction(body):
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
        doc = inspect.getdoc(body) if func is not None else type(self).__doc__
        self.description = check_text("description", first_line(doc), description)
        self.estimated_time = check_ms("estimated_time", estimated_time)
        self.weight = None if weight is None else check_ms("weight", weight)
        if not isinstance(crucial_pass, bool):
            raise ConfigurationError("crucial_pass", crucial_pass, "is neither True nor False")
        self.crucial_pass = crucial_pass
        # What a call runs, resolved once: a call costs microseconds.
        self.body: Callable[..., Any] = self.run if func is None else func
        self.is_async = inspect.iscoroutinefunction(body)
        self.is_generator = inspect.isgeneratorfunction(body)
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
    """The tasks that a function's code names, in the order of first use.

    Names are looked up where the code would look: its closure, its globals, and attributes of
    modules and classes found there (``steps.extract``). Functions defined inside it are searched too.
    """
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    closure: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, getattr(function, "__closure__", None) or ()):
        try:
            closure[name] = cell.cell_contents
        except ValueError:  # a cell that is not filled yet
            continue
    found: dict[int, Task[..., Any]] = {}
    for root, is_global, attributes in _loads(code):
        value = (function.__globals__ if is_global else closure).get(root)
        for attribute in attributes:
            if not isinstance(value, (types.ModuleType, type)):
                break
            value = inspect.getattr_static(value, attribute, None)
            if isinstance(value, (staticmethod, classmethod)):
                value = value.__func__
        if isinstance(value, Task):
            found.setdefault(id(value), value)
    return list(found.values())


@lru_cache(maxsize=1024)
def _loads(code: types.CodeType) -> tuple[tuple[str, bool, tuple[str, ...]], ...]:
    """What code loads, in order: (name, whether global or else of the closure, attributes of it)."""
    found: list[tuple[str, bool, tuple[str, ...]]] = []
    following = False  # whether an attribute of the last name would come next
    for instruction in dis.get_instructions(code):
        operation, argument = instruction.opname, instruction.argval
        if operation in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"):
            found.append((argument, operation in ("LOAD_GLOBAL", "LOAD_NAME"), ()))
            following = True
        elif operation in ("LOAD_ATTR", "LOAD_METHOD") and following:
            root, is_global, attributes = found[-1]
            found[-1] = (root, is_global, (*attributes, argument))
        elif operation not in ("CACHE", "EXTENDED_ARG"):
            following = False
            if isinstance(argument, types.CodeType):
                found += _loads(argument)
    return tuple(found)


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
