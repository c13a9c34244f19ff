"""Every error that perfect raises, under one root.

PerfectError
├── ConfigurationError (ValueError)   an argument, setting or file is wrong: .argument, .value
│   ├── ScheduleError                 a schedule expression is wrong: .field, .reason
│   ├── MissingExtra (ImportError)    an optional part is not installed: .extra
│   └── GraphError                    a graph can't be built or run as it is written
│       └── CycleError                its tasks wait for each other: .cycle
├── TaskError                         a task did not do its work: .task
│   ├── TaskFailed                    it returned TaskResult(passed=False): .result
│   ├── TaskTimeout (TimeoutError)    it took longer than its timeout: .seconds
│   ├── TriggerNotMet                 what its trigger asks of the tasks before it did not come about
│   ├── WorkerLost                    the process that worked at it is gone: .worker
│   ├── RemoteError                   it raised in another process, and the exception itself can't travel: .told
│   ├── NotSendable                   it, its arguments or its result can't go to another process
│   └── TaskStubbed                   perfect.testing made it fail
├── FlowkitError                      what perfect.flowkit raises
│   ├── TaskExecutionError            a task of a DAG failed: .task; the cause is its __cause__
│   ├── DAGCycleError (CycleError)    its tasks wait for each other: .cycle
│   └── TaskNotFoundError (NotFound)  no task of that name
├── Uncacheable                       a call or a result can't be kept for reuse
├── StorageError                      the file of a StateManager can't be read or written: .path, .reason
├── NotFound (LookupError)            no flow, run or file of that name: .kind, .name
└── BackendError                      the backend did not do what was asked
    ├── BackendUnreachable            no answer: refused, timed out, broken off
    └── BackendRefused                an answer that says no: .status, .error, .detail
"""

from __future__ import annotations

from typing import Any


class PerfectError(Exception):
    """The root of everything perfect raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by attributes: a process pool hands an error of its worker on as it was."""
        return _rebuilt, (type(self), self.args, self.__dict__)


class ConfigurationError(PerfectError, ValueError):
    """An argument, setting or file has a value that can't be used.

    Attributes:
        argument: the name of the argument or setting.
        value: what was given.
    """

    def __init__(self, argument: str, value: object, reason: str) -> None:
        super().__init__(f"{argument}={_short(value)}: {reason}")
        self.argument = argument
        self.value = value
        self.reason = reason


class ScheduleError(ConfigurationError):
    """A schedule expression that no clock could follow.

    Attributes:
        field: which part of the expression ("minute", "interval", …).
        reason: what is wrong with it.
    """

    def __init__(self, expression: object, field: str, reason: str) -> None:
        super().__init__("expression", expression, f"{field}: {reason}")
        self.field = field
        self.reason = reason


class MissingExtra(ConfigurationError, ImportError):
    """An optional part of perfect is needed and not installed.

    Attributes:
        extra: the extra's name, as in ``pip install 'perfect-client[extra]'``.
    """

    def __init__(self, extra: str, needed_for: str) -> None:
        Exception.__init__(
            self,
            f"{needed_for} needs the extra {extra!r}: pip install 'perfect-client[{extra}]'",
        )
        self.argument = "extra"
        self.value = extra
        self.reason = "is not installed"
        self.extra = extra


class GraphError(ConfigurationError):
    """A graph of tasks can't be built or run as it is written.

    Args:
        message: the whole sentence, where one made of the others would read badly.
    """

    def __init__(
        self, argument: str, value: object, reason: str, message: str | None = None
    ) -> None:
        super().__init__(argument, value, reason)
        if message is not None:
            self.args = (message,)


class CycleError(GraphError):
    """Tasks of a graph wait for each other.

    Attributes:
        cycle: the names of the tasks around the circle; the first stands at the end again.
    """

    def __init__(self, cycle: list[str]) -> None:
        path = " → ".join(cycle)
        reason = "these wait for each other"
        super().__init__("tasks", path, reason, f"these tasks wait for each other: {path}")
        self.cycle = cycle


class TaskError(PerfectError):
    """A task did not do its work.

    Attributes:
        task: the task's name.
    """

    def __init__(self, task: str, message: str) -> None:
        super().__init__(message)
        self.task = task


class TaskFailed(TaskError):
    """A crucial task returned ``TaskResult(passed=False)``.

    Attributes:
        result: the TaskResult that said so.
    """

    def __init__(self, task: str, result: Any) -> None:
        note = f": {result.note}" if result.note else ""
        super().__init__(task, f"task {task!r} did not pass{note}")
        self.result = result


class TaskTimeout(TaskError, TimeoutError):
    """A task took longer than its ``timeout``.

    Attributes:
        seconds: the limit.
    """

    def __init__(self, task: str, seconds: float) -> None:
        super().__init__(task, f"task {task!r} took longer than its timeout of {seconds:g} s")
        self.seconds = seconds


class TriggerNotMet(TaskError):
    """What a task's trigger asks of the tasks before it did not come about."""


class WorkerLost(TaskError):
    """The process that worked at a task is gone: killed, crashed or out of memory.

    Attributes:
        worker: which one it was.
    """

    def __init__(self, task: str, worker: str) -> None:
        super().__init__(task, f"task {task!r}: {worker} was lost while it worked at it")
        self.worker = worker


class RemoteError(TaskError):
    """What a task raised in another process, where the exception itself can't travel.

    Attributes:
        told: ``{"type", "message", "traceback"}`` of it.
    """

    def __init__(self, task: str, told: dict[str, Any]) -> None:
        super().__init__(task, f"{told['type']}: {told['message']}")
        self.told = told


class NotSendable(TaskError):
    """A task, its arguments or its result can't go to another process."""


class TaskStubbed(TaskError):
    """A test made this task fail (``perfect.testing``)."""


class Uncacheable(PerfectError):
    """A call has no stable key, or its result can't be kept: nothing is reused."""


class StorageError(PerfectError):
    """The file of a `StateManager` can't be read or written.

    Attributes:
        path: the file.
        reason: what the system said.
    """

    def __init__(self, path: str, verb: str, error: OSError) -> None:
        self.path = path
        self.reason = error.strerror or str(error)
        super().__init__(f"{path} can't be {verb}: {self.reason}")


class NotFound(PerfectError, LookupError):
    """Nothing goes by that name.

    Attributes:
        kind: what was looked for ("flow", "run", "file", …).
        name: the name it was looked for by.
    """

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        super().__init__(f"no {kind} {name!r}" + (f" ({hint})" if hint else ""))
        self.kind = kind
        self.name = name


class FlowkitError(PerfectError):
    """What `perfect.flowkit` raises."""


class TaskExecutionError(FlowkitError):
    """A task of a DAG or flow failed; what it raised is the ``__cause__``.

    Attributes:
        task: the task's name.
    """

    def __init__(self, task: str, error: BaseException) -> None:
        super().__init__(f"task {task!r} failed: {type(error).__name__}: {error}")
        self.task = task


class DAGCycleError(FlowkitError, CycleError):
    """Tasks of a DAG wait for each other.

    Attributes:
        cycle: the names of the tasks around the circle; the first stands at the end again.
    """

    def __init__(self, cycle: list[str]) -> None:
        CycleError.__init__(self, cycle)


class TaskNotFoundError(FlowkitError, NotFound):
    """No task of that name is there."""

    def __init__(self, name: str, hint: str = "") -> None:
        NotFound.__init__(self, "task", name, hint)


class BackendError(PerfectError):
    """The backend did not do what it was asked."""


class BackendUnreachable(BackendError):
    """No answer came: refused, timed out or broken off."""


class BackendRefused(BackendError):
    """The backend answered and said no.

    Attributes:
        status: HTTP status.
        error: its one sentence, or the start of what it sent instead.
        detail: whatever else it said (JSON), or None.
        retry_after: seconds it asked to wait, or None.
    """

    def __init__(
        self, status: int, error: str, detail: Any = None, retry_after: float | None = None
    ) -> None:
        super().__init__(f"the backend answered {status}: {error}")
        self.status = status
        self.error = error
        self.detail = detail
        self.retry_after = retry_after

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be taken later: access, overload and failures of the backend."""
        return self.status in (401, 403, 429) or self.status >= 500


def _rebuilt(
    kind: type[PerfectError], args: tuple[Any, ...], facts: dict[str, Any]
) -> PerfectError:
    error = kind.__new__(kind, *args)
    error.args = args  # an OSError's __new__ leaves them to an __init__ that is not called here
    error.__dict__.update(facts)
    return error


def _short(value: object) -> str:
    """A value as it reads in an error message, at most 80 characters of it."""
    try:
        text = repr(value)
    except Exception:  # the user's own __repr__; the message is about something else
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}…"
