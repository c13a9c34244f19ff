"""How the nodes of a run are told to a backend: by which number, and how they have ended."""

from __future__ import annotations

import logging

from perfect.context import current
from perfect.definitions import TaskResult
from perfect.errors import TaskFailed, TriggerNotMet
from perfect.failures import describe
from perfect.graph.executors.base import Tracker
from perfect.graph.graph import Plan
from perfect.outcomes import Failed, State
from perfect.records import TaskRun, result_snapshot

log = logging.getLogger("perfect")

# Nodes whose tasks are listed when the flow is registered, and numbered beforehand. Those of a larger graph
# are numbered as they begin: a backend takes no index far beyond those that it knows (PROTOCOL part 4).
MOST_LISTED = 2000


class Numbers:
    """The indices that the nodes of a run are told by; parameters have none.

    Attributes:
        reserved: how many are known beforehand.
    """

    __slots__ = ("reserved", "_plan", "_given")

    def __init__(self, plan: Plan) -> None:
        count = len(plan.nodes)
        self._plan = plan
        self._given: list[int | None] | None = None if count <= MOST_LISTED else [None] * count
        self.reserved = 0 if self._given else count - plan.told.count(None)

    def of(self, index: int) -> int | None:
        """What a node is told by; None: it is numbered when it begins."""
        return self._plan.told[index] if self._given is None else None

    def before(self, index: int) -> tuple[int, ...]:
        """What the nodes are told by that a node waits for; all of them have ended."""
        given = self._given
        if given is None:
            return self._plan.told_upstream[index]
        numbers = [given[early] for early in self._plan.upstream[index]]
        return tuple([number for number in numbers if number is not None])

    def note(self, index: int, number: int) -> None:
        """A node was told by this number."""
        if self._given is not None:
            self._given[index] = number


def tell(tracker: Tracker, entry: TaskRun, state: State) -> None:
    """Close a task run with what its task has come to."""
    result = state.result
    if not isinstance(state, Failed):
        if isinstance(result, TaskResult):
            entry.result = result_snapshot(result, True)
        entry.reason = state.message or None
        tracker.close(entry, state.wire)
        return
    if isinstance(result, TaskFailed) and result.task == entry.task.name:
        entry.result = result_snapshot(result.result, False)
    elif isinstance(result, BaseException) and not isinstance(result, TriggerNotMet):
        entry.error = describe(result)
    else:
        entry.reason = state.message
    if not state.crucial:
        token = current.set(entry)  # so that the line stands in the task's log
        log.warning(
            "task %r failed (not crucial), the flow goes on: %s", entry.task.name, state.message
        )
        current.reset(token)
    tracker.close(entry, state.wire)
