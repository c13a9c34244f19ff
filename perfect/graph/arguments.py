"""What a task is given in a graph: values, results of other tasks, and containers of both."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from perfect.errors import GraphError
from perfect.graph.node import Awaited, Item, Node
from perfect.mapping import unmapped
from perfect.tasks import Task

_NONE = inspect.Parameter.empty
# A container of nothing but these has no results in it; a million of them are seen in a few ms.
_PLAIN = frozenset((int, float, complex, str, bytes, bool, type(None)))


class Nested:
    """A list, tuple, set or dictionary with results of other tasks somewhere in it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


class Accepts:
    """Which arguments a task takes, read from its signature once."""

    __slots__ = (
        "names",
        "required",
        "only_named",
        "only_positional",
        "any_positional",
        "any_named",
    )

    def __init__(self, task: Task[..., Any]) -> None:
        self.names: tuple[str, ...] = ()  # those that may be given by position
        self.required: frozenset[str] = frozenset()
        self.only_named: frozenset[str] = frozenset()
        self.only_positional: frozenset[str] = frozenset()
        self.any_positional = self.any_named = False
        if task.func is None and type(task).run is Task.run:
            raise GraphError("task", task, "has neither a function nor a run() method")
        try:
            parameters = list(inspect.signature(task.body).parameters.values())
        except (TypeError, ValueError):  # a builtin that does not say
            self.any_positional = self.any_named = True
            return

        def of(*kinds: Any) -> Iterator[str]:
            return (one.name for one in parameters if one.kind in kinds)

        kind = inspect.Parameter
        self.names = tuple(of(kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD))
        self.only_named = frozenset(of(kind.KEYWORD_ONLY))
        self.only_positional = frozenset(of(kind.POSITIONAL_ONLY))
        self.any_positional = any(of(kind.VAR_POSITIONAL))
        self.any_named = any(of(kind.VAR_KEYWORD))
        without_default = {one.name for one in parameters if one.default is _NONE}
        self.required = frozenset(without_default & {*self.names, *self.only_named})

    def names_one(self, name: str) -> bool:
        """Whether the task has a parameter of that name; what ``**kwargs`` takes is none."""
        return name in self.names or name in self.only_named

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
            reason = f"takes {len(names)} positional arguments ({takes}), not {count}"
            raise GraphError("arguments", count, reason, f"task {task.name!r} {reason}")
        filled = set(names[:count])
        for name in named:
            if name in self.only_positional and not self.any_named:
                raise _unfit(task, name, "can be given by position only")
            if name in filled:
                raise _unfit(task, name, "is given twice")
            if not (self.names_one(name) or self.any_named):
                takes = ", ".join((*names, *sorted(self.only_named))) or "none"
                raise _unfit(task, name, f"is unknown; it takes: {takes}")
            filled.add(name)
        if whole and not self.required <= filled:
            name = next(
                one for one in (*names, *sorted(self.only_named)) if one in self.required - filled
            )
            raise _unfit(task, name, "is missing")


def _unfit(task: Task[..., Any], name: str, reason: str) -> GraphError:
    return GraphError(name, None, reason, f"task {task.name!r}: argument {name!r} {reason}")


def accepts(task: Task[..., Any]) -> Accepts:
    """What a task takes.

    Raises:
        GraphError: the task has nothing to run.
    """
    found: Accepts | None = task.__dict__.get("accepts")
    if found is None:
        found = task.__dict__["accepts"] = Accepts(task)
    return found


def template(value: Any, as_node: Callable[[Any], Any]) -> Any:
    """An argument as it is kept: what stands for results in it is found, the rest stays as it is.

    Args:
        as_node: turns a node, an item of one or a task into what stands for its result; anything else
            into None.

    Raises:
        GraphError: a result stands where it can't be put in later.
    """
    found = as_node(value)
    if found is not None:
        return found
    kind = type(value)
    if kind is unmapped:
        inner = template(value.value, as_node)
        return value if inner is value.value else unmapped(inner)
    if isinstance(value, dict):
        if _PLAIN.issuperset(map(type, value.values())) and _PLAIN.issuperset(map(type, value)):
            return value
        pairs = {key: template(part, as_node) for key, part in value.items()}
        if any(isinstance(key, (Awaited, Task)) for key in value):
            raise GraphError("argument", value, "has the result of a task as a key")
        return _nested(value, pairs.values(), lambda: pairs, kind is dict)
    if isinstance(value, (list, tuple, set, frozenset)):
        if _PLAIN.issuperset(map(type, value)):
            return value
        parts = [template(part, as_node) for part in value]
        if isinstance(value, tuple) and hasattr(kind, "_make"):  # a named tuple
            return _nested(value, parts, lambda: kind(*parts), True)
        plain = kind in (list, tuple, set, frozenset)
        return _nested(value, parts, lambda: kind(parts), plain)
    return value


def _nested(value: Any, parts: Iterable[Any], made: Callable[[], Any], known: bool) -> Any:
    """The container with the templates of its parts, if one of them stands for something."""
    if not any(_stands(part) for part in parts):
        return value
    if not known:
        raise GraphError(
            "argument",
            value,
            f"has the result of a task in a {type(value).__name__}; use a plain list or dict",
        )
    return Nested(made())


def _stands(part: Any) -> bool:
    kind = type(part)
    if kind is unmapped:
        return _stands(part.value)
    return kind is Node or kind is Item or kind is Nested


def sources(value: Any) -> Iterator[Node]:
    """The nodes whose results an argument is made of."""
    kind = type(value)
    if kind is Node:
        yield value
    elif kind is Item:
        yield value.path[0]
    elif kind is Nested:
        inner = value.value
        for part in inner.values() if isinstance(inner, dict) else inner:
            yield from sources(part)
    elif kind is unmapped:
        yield from sources(value.value)


def named_arguments(node: Node) -> Iterator[tuple[str, Any]]:
    """The arguments of a node with the names of their parameters; those of ``*args`` by position."""
    names = accepts(node.task).names
    for position, value in enumerate(node.args):
        yield (names[position] if position < len(names) else str(position)), value
    if node.kwargs:
        yield from node.kwargs.items()


def resolved(value: Any, result_of: Callable[[Node], Any]) -> Any:
    """The argument as the task gets it: results in the places of what stands for them."""
    kind = type(value)
    if kind is Node:
        return result_of(value)
    if kind is Item:
        node, keys = value.path
        part = result_of(node)
        for key in keys:
            part = part[key]
        return part
    if kind is Nested:
        return _rebuilt(value.value, lambda part: resolved(part, result_of))
    if kind is unmapped:
        return unmapped(resolved(value.value, result_of))
    return value


def transposed(value: Any, nodes: list[Node]) -> Any:
    """The argument as it is kept in a copy of its graph."""
    kind = type(value)
    if kind is Node:
        return nodes[value.index]
    if kind is Item:
        return Item(transposed(value.source, nodes), value.key)
    if kind is Nested:
        return Nested(_rebuilt(value.value, lambda part: transposed(part, nodes)))
    if kind is unmapped:
        return unmapped(transposed(value.value, nodes))
    return value


def _rebuilt(container: Any, part_of: Callable[[Any], Any]) -> Any:
    if isinstance(container, dict):
        return {key: part_of(part) for key, part in container.items()}
    kind: Any = type(container)
    parts = [part_of(part) for part in container]
    return kind(*parts) if hasattr(kind, "_make") else kind(parts)
