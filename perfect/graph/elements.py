"""The elements of a mapped node: each is a call of its own."""

from __future__ import annotations

from typing import Any

from perfect import mapping
from perfect.attempts import MISSING
from perfect.graph.arguments import named_arguments
from perfect.graph.judging import handed_on, refused
from perfect.graph.ledger import Ledger
from perfect.graph.node import Node
from perfect.outcomes import Cancelled, Failed, Mapped, Pending, Skipped, State
from perfect.records import TaskRun


class Elements:
    """A mapped node that runs.

    An element waits, as it were, for the elements of the same place of those mapped nodes whose
    results it is given one by one; whether they let it run is asked for each element.

    Args:
        node: the node.
        ledger: what is known of the nodes before it.
        entry: the task run that is told of it as a whole, or None.

    Attributes:
        left: how many elements have not ended.
    """

    __slots__ = ("node", "entry", "left", "_states", "_before", "_by_element", "_first", "_asked")

    def __init__(self, node: Node, ledger: Ledger, entry: TaskRun | None) -> None:
        self.node = node
        self.entry = entry
        self.left = 0
        self._states: list[State] = []
        self._before = ledger.before(node)
        self._by_element = by_element(node, self._before)
        self._first = ledger.tested(node)
        self._asked = bool(self._by_element) and (
            node.task.trigger is not None
            or any(state.blocks for states in self._by_element.values() for state in states)
        )

    def rows(self, args: list[Any], kwargs: dict[str, Any]) -> list[mapping.Row]:
        """The arguments of each element's call.

        Raises:
            ConfigurationError: an argument can't be gone through, or they differ in length.
            whatever going through an argument raises.
        """
        rows = list(mapping.rows(self.node.task, tuple(args), kwargs))
        self.left = len(rows)
        self._states = [Pending()] * self.left
        return rows

    def refusal(self, position: int) -> State | None:
        """What the states before an element make of it: None lets it run."""
        if not self._asked:
            return None
        nodes = self.node.graph.nodes
        before = {
            nodes[index]: self._of(position, index, state) for index, state in self._before.items()
        }
        return refused(self.node.task, before)

    def subject(self, position: int, row: mapping.Row) -> Any:
        """What `when` tests of an element: its first argument, unless that was skipped."""
        if self._first is not None and self._first in self._by_element:
            if type(self._by_element[self._first][position]) is Skipped:
                return MISSING
        args, kwargs = row
        return args[0] if args else next(iter(kwargs.values()), MISSING)

    def ended(self, position: int, state: State) -> None:
        """An element has its state."""
        self._states[position] = state
        self.left -= 1

    def state(self) -> State:
        """The state of the whole: Failed with the error of the first that failed, or Mapped."""
        states, task = self._states, self.node.task
        all_of_them = f"{len(states)} element{'' if len(states) == 1 else 's'}"
        blocking = [state for state in states if state.blocks]
        if not blocking:
            results = [handed_on(state, task) for state in states]
            return Mapped(f"over {all_of_them}", results, states)
        failed = [state for state in blocking if state.is_failed()]
        if not failed:
            message = blocking[0].message
            return Cancelled(f"{len(blocking)} of {all_of_them} cancelled: {message}")
        made = Failed(
            f"{len(failed)} of {all_of_them} failed: {failed[0].message}", failed[0].result
        )
        made.map_states = states
        return made

    def _of(self, position: int, index: int, state: State) -> State:
        states = self._by_element.get(index)
        return state if states is None else states[position]


def by_element(node: Node, before: dict[int, State]) -> dict[int, list[State]]:
    """Of the mapped nodes whose elements go to those of this one: their elements' states."""
    found: dict[int, list[State]] = {}
    for _, value in named_arguments(node):
        if type(value) is Node and value.mapped:
            states = getattr(before[value.index], "map_states", None)
            if states:
                found[value.index] = states
    return found
