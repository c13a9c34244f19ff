"""What a thread or coroutine is in while it builds a graph: calls of tasks become nodes."""

from __future__ import annotations

from typing import Any

from perfect.context import Scope, find_scope
from perfect.errors import GraphError
from perfect.graph.graph import Graph
from perfect.graph.node import Node
from perfect.tasks import Task


class Building(Scope):
    """The scope of ``with Flow(…):``.

    Args:
        flow: the flow that is built.
        graph: its graph.
    """

    __slots__ = ("flow", "_graph", "_outer")

    def __init__(self, flow: Any, graph: Graph) -> None:
        self.flow = flow
        self.partials = {}
        self.caller = self
        self._graph = graph
        self._outer = find_scope()

    @property
    def run(self) -> Any:
        return None if self._outer is None else self._outer.run

    def call(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Node:
        """``task(…)``: a node with these arguments."""
        upstream = kwargs.pop("upstream_tasks", ())
        return self._graph.use(task, args, kwargs, upstream=upstream)

    def map(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Node:
        """``task.map(…)``: a node that runs once for each element."""
        upstream = kwargs.pop("upstream_tasks", ())
        return self._graph.use(task, args, kwargs, mapped=True, upstream=upstream)

    def submit(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise GraphError("submit", task, "in a graph, call the task: it runs when it is ready")

    # Printing while a graph is built is as before.

    def feed(self, stream: str, text: str) -> None:
        if self._outer is not None:
            self._outer.feed(stream, text)

    def emit(self, stream: str, level: str, text: str) -> None:
        if self._outer is not None:
            self._outer.emit(stream, level, text)
