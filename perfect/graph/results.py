"""What a caller gets of a run of a graph: the states of its tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perfect.errors import NotFound
from perfect.graph.graph import Graph
from perfect.graph.node import Item, Node
from perfect.outcomes import State, Success
from perfect.tasks import Task


class Results(Mapping[Any, State]):
    """The states of a flow's tasks: by what their calls returned, or by the task where it has one use.

    Args:
        graph: the flow's.
        nodes: the nodes that were run, by index.
        states: theirs.
        wanted: the nodes whose states are asked for; None: all.
    """

    def __init__(
        self, graph: Graph, nodes: list[Node], states: list[State], wanted: list[Node] | None
    ) -> None:
        self._graph = graph
        self._states = states
        self._nodes = nodes if wanted is None else wanted
        self._wanted = None if wanted is None else set(wanted)

    def __getitem__(self, subject: Any) -> State:
        node = self._node(subject)
        if node is None:
            raise NotFound(
                "task", repr(subject), "it is no part of this flow, or was not asked for"
            )
        state = self._states[node.index]
        if not isinstance(subject, Item) or not state.is_successful() or state.is_skipped():
            return state
        value = state.result
        for key in subject.path[1]:
            value = value[key]
        return Success("", value)

    def __contains__(self, subject: object) -> bool:
        return self._node(subject) is not None

    def get(self, subject: Any, default: Any = None) -> Any:
        """The state of a task, or the default where it is no part of the flow."""
        return self[subject] if subject in self else default

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        shown = ", ".join(f"{node!r}: {self[node]!r}" for node in self._nodes[:10])
        return f"{{{shown}{', …' if len(self) > 10 else ''}}}"

    def _node(self, subject: Any) -> Node | None:
        if isinstance(subject, Item):
            subject = subject.path[0]
        if isinstance(subject, Task):
            subject = self._graph.node_of(subject) if self._graph.has(subject) else None
        if not isinstance(subject, Node) or subject.graph is not self._graph:
            return None
        there = (
            subject.index < len(self._states) if self._wanted is None else subject in self._wanted
        )
        return subject if there else None
