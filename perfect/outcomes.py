"""The rich states of graph flows: what a task or flow came to, with a message and a result."""

from __future__ import annotations

from typing import Any, ClassVar

from perfect.states import TaskState


class State:
    """Where a task or a flow stands.

    Attributes:
        message: one sentence, or nothing.
        result: what a task returned, the exception of a failed one, of a flow the states of its tasks.
    """

    __slots__ = ("message", "result")

    wire: ClassVar[TaskState] = TaskState.PENDING  # as it is told to a backend

    def __init__(self, message: str = "", result: Any = None) -> None:
        self.message = message
        self.result = result

    @property
    def type(self) -> str:
        """The name of its kind: "Success", "Failed", …"""
        return type(self).__name__

    @property
    def blocks(self) -> bool:
        """Whether tasks that want all before them successful are not to run after it."""
        return False

    def is_pending(self) -> bool:
        """Whether it is still to run (Pending, Scheduled, Retrying)."""
        return isinstance(self, Pending)

    def is_scheduled(self) -> bool:
        """Whether it waits for a time (Scheduled, Retrying)."""
        return isinstance(self, Scheduled)

    def is_retrying(self) -> bool:
        return isinstance(self, Retrying)

    def is_running(self) -> bool:
        return isinstance(self, Running)

    def is_finished(self) -> bool:
        """Whether nothing follows."""
        return isinstance(self, Finished)

    def is_successful(self) -> bool:
        """Whether it is a Success; Cached, Mapped and Skipped are too."""
        return isinstance(self, Success)

    def is_failed(self) -> bool:
        """Whether it is a Failed; TriggerFailed is too."""
        return isinstance(self, Failed)

    def is_trigger_failed(self) -> bool:
        return isinstance(self, TriggerFailed)

    def is_skipped(self) -> bool:
        return isinstance(self, Skipped)

    def is_mapped(self) -> bool:
        return isinstance(self, Mapped)

    def is_cached(self) -> bool:
        return isinstance(self, Cached)

    def is_cancelled(self) -> bool:
        return isinstance(self, Cancelled)

    def __repr__(self) -> str:
        return f"<{self.type}: {self.message!r}>" if self.message else f"<{self.type}>"


class Pending(State):
    """Still to run."""

    __slots__ = ()


class Scheduled(Pending):
    """To run at a time.

    Attributes:
        start_time: s since the epoch.
    """

    __slots__ = ("start_time",)

    def __init__(self, message: str = "", result: Any = None, start_time: float = 0.0) -> None:
        super().__init__(message, result)
        self.start_time = start_time


class Retrying(Scheduled):
    """An attempt has failed, another one follows at `start_time`.

    Attributes:
        attempt: the number of the attempt that failed, from 1.
    """

    __slots__ = ("attempt",)

    wire = TaskState.RETRYING

    def __init__(
        self, message: str = "", result: Any = None, start_time: float = 0.0, attempt: int = 1
    ) -> None:
        super().__init__(message, result, start_time)
        self.attempt = attempt


class Running(State):
    """At work."""

    __slots__ = ()

    wire = TaskState.RUNNING


class Finished(State):
    """Nothing follows. One of the kinds below."""

    __slots__ = ()


class Success(Finished):
    """Done; `result` is what was returned."""

    __slots__ = ()

    wire = TaskState.COMPLETED


class Cached(Success):
    """Not run: `result` is that of an earlier run."""

    __slots__ = ()


class Mapped(Success):
    """Every element was run; `result` is the list of their results.

    Attributes:
        map_states: the states of the elements, in order.
    """

    __slots__ = ("map_states",)

    def __init__(
        self, message: str = "", result: Any = None, map_states: list[State] | None = None
    ) -> None:
        super().__init__(message, result)
        self.map_states = [] if map_states is None else map_states


class Skipped(Success):
    """Not run, because it was not wanted (`when`); `result` is None."""

    __slots__ = ()

    wire = TaskState.SKIPPED


class Failed(Finished):
    """Not done; `result` is the exception.

    Attributes:
        crucial: whether it fails the flow and keeps the tasks after it from running.
    """

    __slots__ = ("crucial", "map_states")

    wire = TaskState.FAILED

    def __init__(self, message: str = "", result: Any = None, crucial: bool = True) -> None:
        super().__init__(message, result)
        self.crucial = crucial
        self.map_states: list[State] = []

    @property
    def blocks(self) -> bool:
        return self.crucial


class TriggerFailed(Failed):
    """Not run: what its trigger asks of the tasks before it did not come about."""

    __slots__ = ()


class Cancelled(Finished):
    """Not run, or interrupted."""

    __slots__ = ()

    wire = TaskState.CANCELLED

    @property
    def blocks(self) -> bool:
        return True
