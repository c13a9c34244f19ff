"""Weights and progress, as the protocol (CLIENT_ARCHITECTURE.md) defines them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perfect.states import TaskState

# from a task's weight and estimate to its share of the run
Share = Callable[[float | None, int], float]


def shares(weights: Sequence[float | None], estimates: Sequence[int]) -> list[float]:
    """Each task's share of its run; they sum to 1.

    A share is the task's weight over the sum if every task has one, else its estimate over the sum of
    estimates. Where that sum is 0 all tasks count alike.

    Args:
        weights: of the tasks, None where one has none.
        estimates: of the tasks, in ms.
    """
    if all(weight is not None for weight in weights):
        parts = [float(weight) for weight in weights if weight is not None]
    else:
        parts = [float(estimate) for estimate in estimates]
    total = sum(parts)
    if total <= 0:
        return [1 / len(parts)] * len(parts)
    return [part / total for part in parts]


def share(tasks: int, weighted: int, weight: float, estimate: float) -> Share:
    """As `shares`, of a run of which only the sums are known.

    Args:
        tasks: how many it has.
        weighted: how many of them have a weight.
        weight: sum of these.
        estimate: sum of the estimates, in ms.
    """
    if weighted == tasks and weight > 0:
        return lambda one, _: (one or 0.0) / weight
    if weighted < tasks and estimate > 0:
        return lambda _, one: one / estimate
    return lambda *_: 1 / max(1, tasks)


def of_task(
    state: str, reported: float | None, started: int | None, estimate: int, until: int
) -> float:
    """A task's progress from 0 to 100.

    Args:
        state: where the task stands.
        reported: progress the task itself reported, which counts more than the estimate.
        started: ms since the epoch, or None.
        estimate: expected duration in ms.
        until: now for a running task, its end for one that failed; ms since the epoch.
    """
    if state in (TaskState.COMPLETED, TaskState.SKIPPED):
        return 100.0
    if state in (TaskState.PENDING, TaskState.RETRYING):
        return 0.0
    if reported is not None:
        return min(99.0, max(0.0, reported))
    if started is None:
        return 0.0
    if estimate <= 0:
        return 99.0
    return min(99.0, max(0.0, (until - started) / estimate * 100))


def of_run(state: str, weighted: float) -> float:
    """A run's progress from 0 to 100, and 100 only when it is COMPLETED.

    Args:
        state: where the run stands.
        weighted: the sum of share times progress over its tasks.
    """
    if state == TaskState.COMPLETED:
        return 100.0
    return round(min(99.0, max(0.0, weighted)), 2)
