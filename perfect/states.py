"""The states of a run and of a task, as they are written on the wire (PROTOCOL part 0)."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task, or a run, stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"

    @classmethod
    def _missing_(cls, value: object) -> TaskState | None:
        """Accept any letter case, as deployed peers write it."""
        return cls.__members__.get(value.upper()) if isinstance(value, str) else None

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows this state."""
        return self in TERMINAL


TERMINAL = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED, TaskState.CANCELLED}
)
