"""What the tasks of a pipeline are given: results go to the parameters named after tasks, the rest by position."""

from __future__ import annotations

from collections import deque
from graphlib import CycleError as Circle
from graphlib import TopologicalSorter
from typing import Any

from perfect.graph.arguments import accepts
from perfect.graph.node import Node
from perfect.tasks import Task

# Tasks, each with those that it comes after, in the order of the wiring (as keys: they are asked for).
Wired = dict[Task[..., Any], dict[Task[..., Any], None]]


def in_order(wired: Wired) -> list[Task[..., Any]]:
    """The tasks, each after those that it comes after."""
    try:
        return list(TopologicalSorter(wired).static_order())
    except Circle:  # the graph itself says which
        return list(wired)


class Injection:
    """Settles what tasks are given: by name from anywhere before them, the rest by position."""

    def __init__(self, nodes: dict[Task[..., Any], Node], wired: Wired) -> None:
        self._nodes = nodes
        self._wired = wired
        self._by_name = {one.name: one for one in nodes}
        self._after: dict[Task[..., Any], set[Task[..., Any]]] = {}  # all that come after one

    def settle(self, one: Task[..., Any]) -> None:
        takes = accepts(one)
        node, before = self._nodes[one], self._wired[one]
        given: dict[str, Any] = {}
        used: set[Task[..., Any]] = set()
        for name in (*takes.names, *sorted(takes.only_named)):
            source = self._by_name.get(name)
            if source is not None and (source in before or one in self._followers(source)):
                given[name] = self._nodes[source]
                used.add(source)
        rest = deque(source for source in before if source not in used)
        for name in takes.names:
            if rest and name not in given:
                given[name] = self._nodes[rest.popleft()]
        args: list[Any] = []
        for name in takes.names:  # by position as far as it goes: some may take no name
            if name not in given:
                break
            args.append(given.pop(name))
        else:
            if takes.any_positional:
                args += [self._nodes[rest.popleft()] for _ in range(len(rest))]
        if takes.any_named:
            given.update({source.name: self._nodes[source] for source in rest})
        node.args, node.kwargs = tuple(args), given or None
        for source in before:  # also the wires that carry nothing, in their order
            node.graph.connect(self._nodes[source], node)
        node.tested = self._nodes[next(iter(before))] if before else None

    def _followers(self, source: Task[..., Any]) -> set[Task[..., Any]]:
        """All that come after a task; asked for the few that parameters are named after."""
        found = self._after.get(source)
        if found is None:
            found = self._after[source] = set()
            for one in self._nodes:  # in their order: each after those that it comes after
                before = self._wired[one]
                if source in before or not found.isdisjoint(before):
                    found.add(one)
        return found
