"""Which states of the tasks before it let a task run: what `trigger=` takes.

Each is asked with the list of the states of the tasks that the task waits for.
"""

from __future__ import annotations

from collections.abc import Sequence

from perfect.outcomes import State


def all_successful(states: Sequence[State]) -> bool:
    """None has failed or was cancelled; one that is not crucial may have. The default."""
    return not any(state.blocks for state in states)


def all_finished(states: Sequence[State]) -> bool:
    """Whatever came of them."""
    return True


def any_successful(states: Sequence[State]) -> bool:
    """At least one has succeeded, or there is none."""
    return not states or any(state.is_successful() for state in states)


def any_failed(states: Sequence[State]) -> bool:
    """At least one has failed, or there is none."""
    return not states or any(state.is_failed() for state in states)


def all_failed(states: Sequence[State]) -> bool:
    """All have failed."""
    return all(state.is_failed() for state in states)


def always_run(states: Sequence[State]) -> bool:
    """Another name for `all_finished`."""
    return True
