"""What is known of a run's nodes: their states, the results that are still needed, and who waits for whom."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from perfect.attempts import MISSING
from perfect.graph.arguments import resolved
from perfect.graph.graph import Plan
from perfect.graph.judging import handed_on
from perfect.graph.node import Node
from perfect.outcomes import Skipped, State


class Ledger:
    """One run's knowledge of its nodes, by their indices.

    Args:
        plan: what is run.
        keep: the nodes whose results stay; others are let go as soon as nothing needs them. None: all.

    Attributes:
        states: None for what has not ended.
        results: what the nodes after each one are given.
        blocked: whether a node before each one keeps it from running.
    """

    __slots__ = ("plan", "states", "results", "blocked", "_missing", "_users")

    def __init__(self, plan: Plan, keep: Collection[Node] | None) -> None:
        count = len(plan.nodes)
        self.plan = plan
        self.states: list[State | None] = [None] * count
        self.results: list[Any] = [None] * count
        self.blocked = bytearray(count)
        self._missing = [len(before) for before in plan.upstream]
        self._users: list[int] | None = None  # how many nodes still need each result
        if keep is not None:
            self._users = [len(after) for after in plan.downstream]
            for node in keep:
                self._users[node.index] += 1

    def roots(self) -> Iterable[Node]:
        """The nodes that wait for none."""
        return [node for node in self.plan.order if not self._missing[node.index]]

    def settle(self, node: Node, state: State) -> list[Node]:
        """A node has ended; those that waited only for it by now."""
        index = node.index
        self.states[index] = state
        self.results[index] = handed_on(state, node.task)
        missing, nodes = self._missing, self.plan.nodes
        ready = []
        for after in self.plan.downstream[index]:
            missing[after] -= 1
            if not missing[after]:
                ready.append(nodes[after])
        if state.blocks:
            for after in self.plan.downstream[index]:
                self.blocked[after] = 1
        if self._users is not None:
            self._let_go(index, self._users)
        return ready

    def arguments(self, node: Node) -> tuple[list[Any], dict[str, Any]]:
        """What a node is given.

        Raises:
            whatever taking a part of a result raises.
        """
        results = self.results
        args = [
            results[value.index] if type(value) is Node else resolved(value, self._result)
            for value in node.args
        ]
        if not node.kwargs:
            return args, {}
        return args, {name: resolved(value, self._result) for name, value in node.kwargs.items()}

    def tested(self, node: Node) -> int | None:
        """The node whose result `when` tests; None where there is none."""
        if node.tested is not None:
            return node.tested.index
        return next(iter(self.plan.upstream[node.index]), None)

    def subject(self, node: Node) -> Any:
        """What `when` tests, or MISSING."""
        first = self.tested(node)
        if first is None or type(self.states[first]) is Skipped:
            return MISSING
        return self.results[first]

    def before(self, node: Node) -> dict[int, State]:
        """The states of the nodes that a node waits for; all of them have ended."""
        states = self.states
        return {index: states[index] for index in self.plan.upstream[node.index]}  # type: ignore[misc]

    def _result(self, node: Node) -> Any:
        return self.results[node.index]

    def _let_go(self, index: int, users: list[int]) -> None:
        for before in self.plan.upstream[index]:
            users[before] -= 1
            if not users[before]:
                self._drop(before)
        if not users[index]:
            self._drop(index)

    def _drop(self, index: int) -> None:
        self.results[index] = None
        state = self.states[index]
        for one in (state, *getattr(state, "map_states", ())):
            if (
                one is not None and not one.is_failed()
            ):  # of what failed the error is still asked for
                one.result = None
