"""How the end of a node is told to a backend."""

from __future__ import annotations

import logging

from perfect.context import current
from perfect.definitions import TaskResult
from perfect.errors import TaskFailed, TriggerNotMet
from perfect.failures import describe
from perfect.graph.executors.base import Tracker
from perfect.outcomes import Failed, State
from perfect.records import TaskRun, result_snapshot

log = logging.getLogger("perfect")


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
