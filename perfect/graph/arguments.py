"""What a task is given in a graph: values, results of other tasks, and containers of both."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from perfect.errors import GraphError
from perfect.graph.node import Item, Node
from perfect.mapping import unmapped
from perfect.tasks import Task

_NONE = inspect.Parameter.empty


class Nested:
    """A list, tuple, set or dictionary with results of other tasks somewhere in it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


class Accepts:
    """Which arguments a task takes, read from its signature once."""

    __slots__ = ("names", "required", "only_named", "any_positional", "any_named")

    def __init__(self, task: Task[..., Any]) -> None:
        self.names: tuple[str, ...] = ()  # those that may be given by position
        self.required: frozenset[str] = frozenset()
        self.only_named: frozenset[str] = frozenset()
        self.any_positional = self.any_named = False
        try:
            parameters = list(inspect.signature(task.body).parameters.values())
        except (TypeError, ValueError):  # a builtin that does not say
            self.any_positional = self.any_named = True
            return
        by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.names = tuple(one.name for one in parameters if one.kind in by_position)
        self.only_named = frozenset(
            one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY
        )
        self.any_positional = any(
            one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters
        )
        self.any_named = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
        self.required = frozenset(
            one.name
            for one in parameters
            if one.default is _NONE
            and one.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        )

    def check(
        self, task: Task[..., Any], count: int, named: Iterable[str], *, whole: bool = True
    ) -> None:
        """See whether so many positional arguments and these named ones fit.

        Args:
            whole: whether nothing may be missing.

        Raises:
            GraphError: they don't; it names the task and the parameter.
        """
        names = self.names
        if count == len(names) and not named and not self.only_named:
            return  # nearly always
        if count > len(names) and not self.any_positional:
            takes = ", ".join(names) or "none"
            raise GraphError(
                f"arguments of {task.name!r}", count, f"takes {len(names)} positional ({takes})"
            )
        filled = set(names[:count])
        for name in named:
            if name in filled:
                raise GraphError(f"argument {name!r} of {task.name!r}", name, "is given twice")
            if name not in names and name not in self.only_named and not self.any_named:
                takes = ", ".join((*names, *sorted(self.only_named))) or "none"
                raise GraphError(
                    f"argument {name!r} of {task.name!r}", name, f"is unknown; it takes: {takes}"
                )
            filled.add(name)
        if whole:
            for name in (*names, *sorted(self.only_named)):
                if name in self.required and name not in filled:
                    raise GraphError(f"argument {name!r} of {task.name!r}", None, "is missing")


def accepts(task: Task[..., Any]) -> Accepts:
    """What a task takes."""
    found: Accepts | None = task.__dict__.get("accepts")
    if found is None:
        found = task.__dict__["accepts"] = Accepts(task)
    return found


def template(value: Any, as_node: Callable[[Any], Any]) -> Any:
    """An argument as it is kept: what stands for results in it is found, the rest stays as it is.

    Args:
        as_node: turns a node, an item of one or a task into what stands for its result; anything else
            into None.
    """
    found = as_node(value)
    if found is not None:
        return found
    if isinstance(value, unmapped):
        inner = template(value.value, as_node)
        return value if inner is value.value else unmapped(inner)
    kind = type(value)
    if kind in (list, tuple, set, frozenset):
        parts = [template(part, as_node) for part in value]
        if any(new is not old for new, old in zip(parts, value)) or _stands(parts):
            return Nested(kind(parts))
    elif kind is dict:
        pairs = {key: template(part, as_node) for key, part in value.items()}
        if _stands(pairs.values()):
            return Nested(pairs)
    return value


def _stands(parts: Iterable[Any]) -> bool:
    return any(True for part in parts for _ in sources(part))


def sources(value: Any) -> Iterator[Node]:
    """The nodes whose results an argument is made of."""
    kind = type(value)
    if kind is Item:
        while type(value) is Item:
            value = value.source
        yield value
    elif kind is Nested:
        inner = value.value
        for part in inner.values() if isinstance(inner, dict) else inner:
            yield from sources(part)
    elif kind is unmapped:
        yield from sources(value.value)
    elif kind is Node:
        yield value


def named_arguments(node: Node) -> Iterator[tuple[str, Any]]:
    """The arguments of a node with the names of their parameters; those of ``*args`` by position."""
    names = accepts(node.task).names
    for position, value in enumerate(node.args):
        yield (names[position] if position < len(names) else str(position)), value
    if node.kwargs:
        yield from node.kwargs.items()


def replaced(value: Any, by: Callable[[Node], Any]) -> Any:
    """The argument with something in the place of each node, an item of one taken from it."""
    kind = type(value)
    if kind is Node:
        return by(value)
    if kind is Item:
        return replaced(value.source, by)[value.key]
    if kind is Nested:
        inner = value.value
        if isinstance(inner, dict):
            return {key: replaced(part, by) for key, part in inner.items()}
        return type(inner)(replaced(part, by) for part in inner)
    if kind is unmapped:
        return unmapped(replaced(value.value, by))
    return value


def transposed(value: Any, nodes: list[Node]) -> Any:
    """The argument as it is kept in a copy of its graph."""
    moved = replaced(value, lambda node: nodes[node.index])
    return Nested(moved) if type(value) is Nested else moved
