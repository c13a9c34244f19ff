"""What an executor is: started for a run, it takes attempts and gives them back when they have ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from perfect.context import current
from perfect.errors import ConfigurationError
from perfect.driving import perform
from perfect.records import FlowRun, TaskRun
from perfect.states import TaskState
from perfect.tasks import Task

GRACE = 3.0  # s that tasks elsewhere have to end by themselves when their run is cancelled


class Tracker(Protocol):
    """Who is told of task runs.

    Attributes:
        run: whose they are.
    """

    run: FlowRun

    def reserve(self, count: int) -> None: ...

    def open(
        self,
        task: Task[..., Any],
        index: int | None = None,
        upstream: tuple[int, ...] | None = None,
        map_index: int | None = None,
        begun: bool = True,
    ) -> TaskRun: ...

    def close(self, entry: TaskRun, state: TaskState) -> None: ...


class Work:
    """One call of a task in a graph: what its attempts need, and what the last one came to.

    Attributes:
        task: the task; its `timeout` holds for each attempt.
        body: the function to call: the task's, or what a test put in its place.
        args, kwargs: its arguments, all results in place.
        result: what the attempt returned.
        error: what it raised instead, or None.
        entry: the task run that is told of the call; None before the first attempt begins, and where
            nobody is told.
        urgent: whether it comes before what was handed over earlier: a retry that is due.
        node, map_index, steps, mapped, upstream, index, tracker: the runner's.
    """

    __slots__ = (
        "task",
        "body",
        "args",
        "kwargs",
        "result",
        "error",
        "entry",
        "tracker",
        "index",
        "upstream",
        "node",
        "map_index",
        "steps",
        "mapped",
        "urgent",
        "losses",  # workers that were lost at it; unset before the first (`perfect.graph.remote.lost`)
    )
    losses: int

    def __init__(
        self,
        task: Task[..., Any],
        body: Callable[..., Any],
        args: Any,
        kwargs: dict[str, Any],
        node: Any = None,
    ) -> None:
        self.task = task
        self.body = body
        self.args = args
        self.kwargs = kwargs
        self.node = node
        self.result: Any = None
        self.error: BaseException | None = None
        self.entry: TaskRun | None = None
        self.tracker: Tracker | None = None
        self.index: int | None = None
        self.upstream: tuple[int, ...] | None = None
        self.map_index: int | None = None
        self.steps: Any = None
        self.mapped: Any = None
        self.urgent = False

    def begin(self, begun: bool = True) -> None:
        """To be called when the first attempt begins, from any thread: it is told then.

        Args:
            begun: False: there was none, it is only told what the call has come to.
        """
        if self.entry is None and self.tracker is not None:
            self.entry = self.tracker.open(
                self.task, self.index, self.upstream, self.map_index, begun
            )

    def make(self) -> None:
        """Make an attempt in this thread, and keep what it came to; raises nothing."""
        token = None
        try:
            if self.tracker is not None:
                if self.entry is None:
                    self.begin()
                token = current.set(self.entry)
            task = self.task
            if task.is_plain or task.timeout is None and not (task.is_async or task.is_generator):
                self.result = self.body(*self.args, **self.kwargs)
            else:
                self.result = perform(task, self.body, self.args, self.kwargs)
        except BaseException as error:
            self.error = error
        finally:
            if token is not None:
                current.reset(token)

    # What the course of a call tells (`perfect.attempts.Entry`).

    def retrying(self, error: BaseException, reason: str) -> None:
        if self.entry is not None:
            self.entry.retrying(error, reason)

    def resumed(self) -> None:
        if self.entry is not None:
            self.entry.resumed()


class Pool(ABC):
    """A started executor, used by one thread: the one that runs the graph.

    Attributes:
        slots: how many attempts to hand over before some have ended.
        inline: whether an attempt may as well be made by the thread that runs the graph.
    """

    slots: int = 1
    inline: bool = False

    @abstractmethod
    def submit(self, work: Work) -> None:
        """Take an attempt; does not wait for it.

        `work.begin()` is called when it begins, `work.result` or `work.error` is set when it has ended.
        """

    @abstractmethod
    def wait(self, timeout: float | None) -> Iterable[Work]:
        """The attempts that have ended; waits for one, up to `timeout` s (None: as long as it takes)."""

    def make(self, work: Work) -> None:
        """Make an attempt in this thread at once; only asked of an inline pool."""
        work.make()

    def withdraw(self) -> Iterable[Work]:
        """Give back the attempts that have not begun: they are not to be made. Raises nothing."""
        return ()

    def interrupt(self, reason: str) -> Iterable[Work]:
        """The run is cancelled: let what is under way know, and give back what has been ended with a RunCancelled.

        The rest is waited for as ever; what does not end by itself within `GRACE` is ended, or given up, where
        that can be done.
        """
        return ()

    @abstractmethod
    def close(self, *, hurried: bool) -> None:
        """Let go of threads, processes and connections; what has not begun is not begun any more.

        Args:
            hurried: after Ctrl+C: what is under way is not waited for.
        """


class Executor(ABC):
    """Where attempts are made. Holds what its user said; one may serve many runs, also at once."""

    @abstractmethod
    def start(self) -> Pool:
        """Begin to serve one run."""


def checked_executor(executor: Any) -> Executor | None:
    """An executor, or None.

    Raises:
        ConfigurationError: it is something else.
    """
    if executor is not None and not isinstance(executor, Executor):
        raise ConfigurationError("executor", executor, "is no Executor")
    found: Executor | None = executor
    return found
