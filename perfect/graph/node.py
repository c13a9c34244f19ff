"""A use of a task in a graph, and what stands for its result while the graph is built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from perfect.errors import GraphError
from perfect.tasks import Task

if TYPE_CHECKING:
    from perfect.graph.graph import Graph


class Node:
    """One use of a task. As an argument of another task it stands for its result.

    Attributes:
        task: what is run.
        index: its place in the graph, from 0.
        args, kwargs: what it is given; `perfect.graph.arguments` says in what form.
        after: nodes that it waits for beside those whose results it is given.
        mapped: whether it runs once for each element of its arguments.
        tested: the node whose result `when` tests; None: the first one that it waits for.
    """

    __slots__ = ("task", "graph", "index", "args", "kwargs", "after", "mapped", "tested")

    def __init__(self, task: Task[..., Any], graph: Graph, index: int) -> None:
        self.task = task
        self.graph = graph
        self.index = index
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] | None = None
        self.after: list[Node] | None = None
        self.mapped = False
        self.tested: Node | None = None

    @property
    def name(self) -> str:
        return self.task.name

    def bind(self, /, *args: Any, upstream_tasks: Iterable[Any] = (), **kwargs: Any) -> Node:
        """Say what its arguments are."""
        self.graph.bind(self, args, kwargs)
        for other in upstream_tasks:
            self.graph.connect(other, self)
        return self

    def set_upstream(self, task: Any, flow: Any = None) -> None:
        """Let it wait for another one; nothing is handed over."""
        self.graph.connect(task, self)

    def set_downstream(self, task: Any, flow: Any = None) -> None:
        """Let another one wait for it; nothing is handed over."""
        self.graph.connect(self, task)

    def __rshift__(self, other: Any) -> Any:
        for late in _each(other):
            self.graph.connect(self, late)
        return other

    def __rrshift__(self, other: Any) -> Node:
        for early in _each(other):
            self.graph.connect(early, self)
        return self

    def __lshift__(self, other: Any) -> Any:
        for early in _each(other):
            self.graph.connect(early, self)
        return other

    def __rlshift__(self, other: Any) -> Node:
        for late in _each(other):
            self.graph.connect(self, late)
        return self

    def __getitem__(self, key: Any) -> Item:
        return Item(self, key)

    __iter__ = None  # its result is not there yet: `for` would index it forever

    def __bool__(self) -> bool:
        raise GraphError(
            "condition", self, "the result is known when the flow runs; give the task `when=`"
        )

    def __repr__(self) -> str:
        return f"<Node {self.index} {self.task.name!r}>"


class Item:
    """A part of a result that is not there yet: ``result[key]``."""

    __slots__ = ("source", "key")

    def __init__(self, source: Node | Item, key: Any) -> None:
        self.source = source
        self.key = key

    def __getitem__(self, key: Any) -> Item:
        return Item(self, key)

    __iter__ = None

    def __repr__(self) -> str:
        return f"{self.source!r}[{self.key!r}]"


def _each(side: Any) -> Iterable[Any]:
    return side if isinstance(side, (list, tuple, set, frozenset)) else (side,)
