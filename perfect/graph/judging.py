"""What the state of one node means for those after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfect import attempts
from perfect.errors import TaskFailed, TriggerNotMet
from perfect.graph.node import Node
from perfect.outcomes import Failed, State, TriggerFailed
from perfect.tasks import Task


def handed_on(state: State, task: Task[..., Any] | None = None) -> Any:
    """What the tasks after it are given of a finished task, by the rules of eager calls.

    One that is not crucial and failed gives None, or the `TaskResult` that did not pass. The error of
    a crucial one goes to those whose trigger lets them run.

    Args:
        task: the finished one; a `TaskFailed` of another one, which it raised, gives None.
    """
    if isinstance(state, Failed):
        if state.map_states:
            return [handed_on(element, task) for element in state.map_states]
        if not state.crucial:
            error = state.result
            own = isinstance(error, TaskFailed) and (task is None or error.task == task.name)
            return error.result if own else None
    return state.result


def refused(task: Task[..., Any], before: Mapping[Node, State]) -> State | None:
    """What a task's trigger makes of the states before it: None lets it run.

    A task that does not run because a crucial one failed fails the flow as that one does, whether it
    is crucial itself or not.

    Args:
        before: the states of the nodes that it waits for.
    """
    blocking = [(node, state) for node, state in before.items() if state.blocks]
    if task.trigger is None:
        if not blocking:
            return None
        message = f"not run: {_did_not_succeed(blocking)}"
    else:
        try:
            if task.trigger(list(before.values())):
                return None
        except Exception as error:
            return attempts.failed(task, error)
        name = getattr(task.trigger, "__name__", repr(task.trigger))
        message = f"not run: its trigger {name} is not met"
    crucial = task.crucial_pass or bool(blocking)
    return TriggerFailed(message, TriggerNotMet(task.name, message), crucial)


def _did_not_succeed(blocking: list[tuple[Node, State]]) -> str:
    """Which before it were no success; one that was run and failed is named first."""
    blocking.sort(key=lambda one: one[1].is_trigger_failed() or one[1].is_cancelled())
    node, first = blocking[0]
    did = "was cancelled" if first.is_cancelled() else "failed"
    if first.is_trigger_failed():
        did = "was not run"
    others = f" and {len(blocking) - 1} more" if len(blocking) > 1 else ""
    return f"{node.name!r} before it {did}{others}"
