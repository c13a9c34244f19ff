"""A use of a task in a graph, and what stands for its result while the graph is built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from perfect.errors import GraphError
from perfect.tasks import Task

if TYPE_CHECKING:
    from perfect.graph.graph import Graph


class Awaited:
    """What stands for a value that is there when the flow runs: it can be handed on, not looked at."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Item:
        for part in (key.start, key.stop, key.step) if isinstance(key, slice) else (key,):
            if isinstance(part, Awaited):
                raise self._too_early("an index", "take the part in a task that is given both")
        return Item(self, key)

    def __iter__(self) -> Iterator[Any]:
        raise self._too_early("a row", "use task.map(…), or take its parts by index: result[0]")

    def __contains__(self, part: Any) -> NoReturn:
        raise self._too_early("a container", "look into it in a task")

    def __bool__(self) -> NoReturn:
        raise self._too_early("a condition", "give the task that depends on it `when=`")

    def _too_early(self, use: str, hint: str) -> GraphError:
        return GraphError(
            use,
            self,
            f"is known when the flow runs; {hint}",
            f"{self._label()} can't be {use} while the flow is built: it is known when the flow runs; {hint}",
        )

    def _label(self) -> str:
        raise NotImplementedError


class Node(Awaited):
    """One use of a task. As an argument of another task it stands for its result.

    Attributes:
        task: what is run.
        index: its place in the graph, from 0.
        args, kwargs: what it is given; `perfect.graph.arguments` says in what form.
        after: nodes that it waits for beside those whose results it is given.
        mapped: whether it runs once for each element of its arguments that are not unmapped.
        tested: the node whose result `when` tests; None: the first one that it waits for.
    """

    __slots__ = ("task", "graph", "index", "args", "kwargs", "after", "mapped", "tested")

    def __init__(self, task: Task[..., Any], graph: Graph, index: int) -> None:
        self.task = task
        self.graph = graph
        self.index = index
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] | None = None
        self.after: Iterable[Node] | None = None
        self.mapped = False
        self.tested: Node | None = None

    @property
    def name(self) -> str:
        return self.task.name

    def bind(
        self, /, *args: Any, flow: Any = None, upstream_tasks: Any = (), **kwargs: Any
    ) -> Node:
        """Say what its arguments are."""
        self._check(flow)
        self.graph.bind(self, args, kwargs)
        for other in each(upstream_tasks):
            self.graph.connect(other, self)
        return self

    def set_upstream(self, task: Any, flow: Any = None) -> None:
        """Let it wait for another one; nothing is handed over."""
        self._check(flow)
        self.graph.connect(task, self)

    def set_downstream(self, task: Any, flow: Any = None) -> None:
        """Let another one wait for it; nothing is handed over."""
        self._check(flow)
        self.graph.connect(self, task)

    def _check(self, flow: Any) -> None:
        if flow is not None and flow.graph is not self.graph:
            raise GraphError("flow", flow, "is another one", f"{self!r} is part of another flow")

    def __rshift__(self, other: Any) -> Any:
        for late in each(other):
            self.graph.connect(self, late)
        return other

    def __rrshift__(self, other: Any) -> Node:
        for early in each(other):
            self.graph.connect(early, self)
        return self

    def __lshift__(self, other: Any) -> Any:
        for early in each(other):
            self.graph.connect(early, self)
        return other

    def __rlshift__(self, other: Any) -> Node:
        for late in each(other):
            self.graph.connect(self, late)
        return self

    def __repr__(self) -> str:
        return f"<Node {self.index} {self.task.name!r}>"

    def _label(self) -> str:
        return f"the result of {self.name!r}"


class Item(Awaited):
    """A part of a result: ``result[key]``."""

    __slots__ = ("source", "key")

    def __init__(self, source: Any, key: Any) -> None:
        self.source: Node | Item = source
        self.key = key

    @property
    def path(self) -> tuple[Node, list[Any]]:
        """The node whose result it is a part of, and the keys that lead to it."""
        keys = [self.key]
        source = self.source
        while isinstance(source, Item):
            keys.append(source.key)
            source = source.source
        return source, keys[::-1]

    def __repr__(self) -> str:
        return f"{self.source!r}[{self.key!r}]"

    def _label(self) -> str:
        return f"a part of {self.source._label()}"


def each(side: Any) -> Iterable[Any]:
    """One or several tasks as several."""
    return side if isinstance(side, (list, tuple, set, frozenset, dict)) else (side,)
