"""What a thread or coroutine is in while it builds a graph: calls of tasks become nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from perfect.context import PLAIN, Caller, Scope, current, find_scope
from perfect.errors import GraphError
from perfect.graph.arguments import accepts
from perfect.graph.graph import Graph
from perfect.tasks import Task


class Building(Scope):
    """The scope of ``with Flow(…):``, from its making until `leave`.

    Args:
        flow: the flow that is built.
        graph: its graph.
    """

    __slots__ = ("_flow", "_graph", "_before", "_outer", "_left")

    def __init__(self, flow: Any, graph: Graph) -> None:
        self.partials = {}
        self.caller = self
        self._flow = flow
        self._graph = graph
        self._before = current.get()  # what stands there again afterwards
        self._outer = find_scope()  # what printed lines belong to
        self._left = False
        current.set(self)

    @staticmethod
    def leave(flow: Any) -> None:
        """End what the innermost ``with`` has begun.

        Raises:
            GraphError: that is the one of another flow, or of another thread or coroutine.
        """
        scope = current.get()
        if not isinstance(scope, Building) or scope._flow is not flow:
            raise GraphError("flow", flow, "is not the one that is being built here")
        scope._left = True
        current.set(scope._before)

    @property
    def run(self) -> Any:
        return None if self._outer is None else self._outer.run

    @property
    def flow(self) -> Any:
        """The flow that is built; None after the ``with``, for coroutines that were begun in it."""
        return None if self._left else self._flow

    def call(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``task(…)``: a node with these arguments."""
        if self._left:
            return self._outer_caller().call(task, args, kwargs)
        upstream = _taken_upstream(task, kwargs)
        return self._graph.use(task, args, kwargs, upstream=upstream)

    def map(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``task.map(…)``: a node that runs once for each element."""
        if self._left:
            return self._outer_caller().map(task, args, kwargs)
        upstream = _taken_upstream(task, kwargs)
        return self._graph.use(task, args, kwargs, mapped=True, upstream=upstream)

    def submit(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._left:
            return self._outer_caller().submit(task, args, kwargs)
        reason = "is for eager flows; in a graph call the task: it runs as soon as it can"
        raise GraphError("submit", task, reason, f"task {task.name!r}: submit {reason}")

    def _outer_caller(self) -> Caller:
        return PLAIN if self._outer is None else self._outer.caller

    # Printing while a graph is built is as before.

    def feed(self, stream: str, text: str) -> None:
        if self._outer is not None:
            self._outer.feed(stream, text)

    def emit(self, stream: str, level: str, text: str) -> None:
        if self._outer is not None:
            self._outer.emit(stream, level, text)

    def report_progress(self, fraction: float) -> None:
        if self._outer is not None:
            self._outer.report_progress(fraction)


@contextmanager
def not_building() -> Iterator[None]:
    """Let calls of tasks be calls, also in a ``with Flow(…):``; for a run that nobody is told of."""
    scope = current.get()
    if not isinstance(scope, Building):
        yield
        return
    token = current.set(scope._before)
    try:
        with not_building():  # the one around it may be another
            yield
    finally:
        current.reset(token)


def _taken_upstream(task: Task[..., Any], kwargs: dict[str, Any]) -> Any:
    """``upstream_tasks=``, unless the task has a parameter of that name."""
    if "upstream_tasks" in kwargs and not accepts(task).names_one("upstream_tasks"):
        return kwargs.pop("upstream_tasks")
    return ()
