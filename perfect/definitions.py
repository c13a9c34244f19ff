"""What the definitions of tasks say, how their arguments are checked, and where they are listed."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from perfect.errors import ConfigurationError
from perfect.text import clean

if TYPE_CHECKING:
    from perfect.flows import FlowDefinition

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
    if "\0" in value:
        raise ConfigurationError(argument, value, "has a NUL, which databases can't keep")
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


def check_configuration(configuration: str) -> str:
    """A configuration's name: any text of at most 200 characters."""
    if not isinstance(configuration, str) or len(configuration) > LONGEST_NAME:
        raise ConfigurationError("configuration", configuration, "is not a text of 200 characters")
    return configuration


def check_parameters(parameters: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A run's parameters by name; None is none."""
    if parameters is not None and not isinstance(parameters, Mapping):
        raise ConfigurationError("parameters", parameters, "is not a mapping of names to values")
    return parameters or {}
