"""A graph of tasks: nodes, what they are given, what they wait for, and in which order they can run."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError as Circle
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

from perfect.errors import CycleError, GraphError
from perfect.graph.arguments import accepts, named_arguments, sources, template, transposed
from perfect.graph.node import Item, Node, each
from perfect.graph.parameter import Parameter
from perfect.mapping import unmapped
from perfect.tasks import Task


class Edge(NamedTuple):
    """One node waits for another.

    Attributes:
        key: the parameter that its result goes to; None where nothing is handed over.
        mapped: whether each element of it goes to a run of its own.
    """

    upstream: Node
    downstream: Node
    key: str | None
    mapped: bool


class Plan(NamedTuple):
    """What a run needs to know of a graph as it is now, by the nodes' indices.

    Attributes:
        nodes: every node, by index.
        order: every node, upstream before downstream.
        upstream: the nodes each one waits for; those whose results it is given come first.
        downstream: the nodes that wait for each one.
        told: the index that each one goes by towards a backend; None for parameters, which are no tasks.
        told_upstream: the same for the nodes that each one waits for.
    """

    nodes: list[Node]
    order: list[Node]
    upstream: list[tuple[int, ...]]
    downstream: list[list[int]]
    told: list[int | None]
    told_upstream: list[tuple[int, ...]]


class Graph:
    """Nodes in the order they were added. What is added while it runs is run the next time."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._by_task: dict[Task[..., Any], list[Node]] = {}
        self._plan: Plan | None = None

    # --- building --------------------------------------------------------------------------

    def add(self, task: Task[..., Any]) -> Node:
        """Another use of a task."""
        node = Node(task, self, len(self.nodes))
        self.nodes.append(node)
        uses = self._by_task.get(task)
        if uses is None:
            self._by_task[task] = [node]
        else:
            uses.append(node)
        self._plan = None
        return node

    def use(
        self,
        task: Task[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        mapped: bool = False,
        upstream: Any = (),
    ) -> Node:
        """Another use of a task with all its arguments.

        Raises:
            GraphError: they don't fit what the task takes, or one is a node of another graph.
        """
        accepts(task).check(task, len(args), kwargs)
        if isinstance(task, Parameter):  # a flow has each of its parameters once
            return self.node_of(task)
        args = tuple([self._template(value) for value in args])
        named = {name: self._template(value) for name, value in kwargs.items()} if kwargs else None
        before = dict.fromkeys([self.node_of(other) for other in each(upstream)])
        node = self.add(task)
        node.args, node.kwargs, node.mapped = args, named, mapped
        node.after = before or None
        return node

    def bind(
        self, subject: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, mapped: bool = False
    ) -> Node:
        """Say what a node's arguments are; those said before stay unless they are named again.

        Args:
            mapped: whether the node runs once for each element of these arguments; else they are the
                same for every element.

        Raises:
            GraphError: they don't fit what the task takes.
        """
        node = self.node_of(subject)
        takes = accepts(node.task)
        takes.check(node.task, len(args), kwargs, whole=False)
        given = [self._template(value) for value in args]
        named = {name: self._template(value) for name, value in kwargs.items()}
        if mapped and not node.mapped:
            node.args = tuple([_unmapped(value) for value in node.args])
            node.kwargs = {name: _unmapped(value) for name, value in (node.kwargs or {}).items()}
            node.mapped = True
        elif node.mapped and not mapped:
            given = [_unmapped(value) for value in given]
            named = {name: _unmapped(value) for name, value in named.items()}
        # By name, so that each may be said anew; what goes to *args has none.
        names, count = takes.names, len(takes.names)
        rest = given[count:] or node.args[count:]
        said = {
            **dict(zip(names, node.args)),
            **(node.kwargs or {}),
            **dict(zip(names, given)),
            **named,
        }
        first: list[Any] = []
        for name in names:
            if name not in said:
                break
            first.append(said.pop(name))
        node.args, node.kwargs = (*first, *rest), said or None
        self._plan = None
        return node

    def connect(self, before: Any, after: Any) -> None:
        """Let a node wait for another one; nothing is handed over."""
        early, late = self.node_of(before), self.node_of(after)
        if not isinstance(late.after, dict):
            late.after = dict.fromkeys(late.after or ())
        late.after[early] = None
        self._plan = None

    def node_of(self, subject: Any) -> Node:
        """The node that is meant: itself, that of an item, or a task's only one (added if there is none).

        Raises:
            GraphError: it is of another graph, a task with several uses, or neither.
        """
        if type(subject) is Item:
            subject = subject.path[0]
        if type(subject) is Node:
            if subject.graph is not self:
                reason = "is part of another flow"
                raise GraphError("task", subject, reason, f"task {subject.name!r} {reason}")
            return subject
        if isinstance(subject, Task):
            uses = self._by_task.get(subject)
            if uses is None:
                return self.add(subject)
            if len(uses) > 1:
                reason = (
                    f"is used {len(uses)} times in this flow; say which by what its call returned"
                )
                raise GraphError("task", subject, reason, f"task {subject.name!r} {reason}")
            return uses[0]
        raise GraphError("task", subject, "is neither a task nor the result of one")

    def copy(self) -> Graph:
        """Another graph of the same tasks and edges."""
        made = Graph()
        for node in self.nodes:
            made.add(node.task)

        for node, new in zip(self.nodes, made.nodes):
            new.args = tuple([transposed(value, made.nodes) for value in node.args])
            if node.kwargs is not None:
                new.kwargs = {
                    name: transposed(value, made.nodes) for name, value in node.kwargs.items()
                }
            if node.after is not None:
                new.after = dict.fromkeys([made.nodes[early.index] for early in node.after])
            new.mapped = node.mapped
            new.tested = None if node.tested is None else made.nodes[node.tested.index]
        return made

    def has(self, subject: Any) -> bool:
        """Whether a task or node is in the graph."""
        if isinstance(subject, Task):
            return subject in self._by_task
        return type(subject) is Node and subject.graph is self

    def _template(self, value: Any) -> Any:
        kind = type(value)
        if kind is int or kind is str:  # nearly always, or a node
            return value
        try:
            return template(value, self._stands_for)
        except RecursionError:  # a list that contains itself, say: nobody writes results into that
            return value

    def _stands_for(self, value: Any) -> Any:
        kind = type(value)
        if kind is Node:
            return self.node_of(value)
        if kind is Item:
            self.node_of(value)
            return value
        return self.node_of(value) if isinstance(value, Task) else None

    # --- asking ----------------------------------------------------------------------------

    def edges(self) -> Iterator[Edge]:
        """Every edge, by the node at its end; one that carries data to two parameters stands twice."""
        for node in self.nodes:
            for key, value in named_arguments(node):
                mapped = node.mapped and type(value) is not unmapped
                for source in sources(value):
                    yield Edge(source, node, key, mapped)
            for early in node.after or ():
                yield Edge(early, node, None, False)

    def plan(self) -> Plan:
        """The order to run in, and who waits for whom.

        Raises:
            CycleError: nodes wait for each other.
            GraphError: an argument is missing; it names task and parameter.
        """
        if self._plan is None:
            self._plan = self._made_plan()
        return self._plan

    def _made_plan(self) -> Plan:
        nodes = self.nodes[:]
        upstream: list[tuple[int, ...]] = []
        downstream: list[list[int]] = [[] for _ in nodes]
        in_order = True  # as long as each node only waits for earlier ones, as in most graphs
        for index, node in enumerate(nodes):
            accepts(node.task).check(node.task, len(node.args), node.kwargs or ())
            if node.mapped:
                _check_mapped(node)
            before: dict[int, None] = {}
            for value in node.args:
                if type(value) is Node:
                    before[value.index] = None
                elif type(value) is not int:
                    for source in sources(value):
                        before[source.index] = None
            if node.kwargs:
                for value in node.kwargs.values():
                    for source in sources(value):
                        before[source.index] = None
            if node.after:
                for early in node.after:
                    before[early.index] = None
            for early_index in before:
                downstream[early_index].append(index)
                if early_index >= index:
                    in_order = False
            upstream.append(tuple(before))
        order = nodes if in_order else self._sorted(upstream)
        return Plan(nodes, order, upstream, downstream, *_told(nodes, upstream))

    def _sorted(self, upstream: list[tuple[int, ...]]) -> list[Node]:
        sorter: TopologicalSorter[int] = TopologicalSorter(dict(enumerate(upstream)))
        try:
            return [self.nodes[index] for index in sorter.static_order()]
        except Circle as circle:
            # Each one stands before the one that waits for it; the first stands at the end again.
            labels = self.labels()
            raise CycleError([labels[index] for index in circle.args[1]]) from None

    def labels(self) -> list[str]:
        """The nodes' names by index; where a task has several uses, the further ones are numbered."""
        count: dict[str, int] = {}
        labels = []
        for node in self.nodes:
            count[node.name] = number = count.get(node.name, 0) + 1
            labels.append(node.name if number == 1 else f"{node.name} ({number})")
        return labels


def _unmapped(value: Any) -> unmapped:
    return value if type(value) is unmapped else unmapped(value)


def _check_mapped(node: Node) -> None:
    values = (*node.args, *(node.kwargs or {}).values())
    if all(type(value) is unmapped for value in values):
        reason = "is mapped over nothing: all its arguments are unmapped, or there are none"
        raise GraphError("map", node.name, reason, f"task {node.name!r} {reason}")


def _told(
    nodes: list[Node], upstream: list[tuple[int, ...]]
) -> tuple[list[int | None], list[tuple[int, ...]]]:
    """Numbers without gaps for the nodes that are tasks."""
    if not any(isinstance(node.task, Parameter) for node in nodes):
        return list(range(len(nodes))), upstream
    numbers = iter(range(len(nodes)))
    told = [None if isinstance(node.task, Parameter) else next(numbers) for node in nodes]
    return told, [
        tuple([number for index in before if (number := told[index]) is not None])
        for before in upstream
    ]
