"""What is reported: runs, task runs and lines, as the flow's thread leaves them for the sender.

A record is put into the outbox when it begins and again whenever it changed; the sender reads what
it says *then*. A task that began and ended while a request was under way so travels once. Fields
are set before `state`, so a terminal state is only ever seen with its facts complete.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from time import time
from typing import Any, NamedTuple

from perfect.about import RunInfo
from perfect.context import Caller, Scope, current
from perfect.failures import describe
from perfect.jsonable import snapshot
from perfect.states import TaskState
from perfect.definitions import TaskResult
from perfect.tasks import Task

RELIEVE_MASK = 1023  # every 1,024 records there is a look at how much waits

Put = Callable[[Any], None]

# Plain module names: an enum member's lookup costs as much as the rest of the line.
RUNNING, RETRYING, COMPLETED, FAILED = (
    TaskState.RUNNING,
    TaskState.RETRYING,
    TaskState.COMPLETED,
    TaskState.FAILED,
)
# What is told of a flow's argument: the first so many entries and characters.
MOST_ENTRIES, LONGEST_TEXT = 100, 1000
MOST_ATTEMPTS = 100  # that are told of one task run: the newest

log = logging.getLogger("perfect")


def new_id() -> str:
    """A random UUID (version 4, RFC 9562), without importing `uuid`."""
    number = bytearray(os.urandom(16))
    number[6] = number[6] & 0x0F | 0x40
    number[8] = number[8] & 0x3F | 0x80
    text = number.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class LogLine(NamedTuple):
    """One line that a run wrote. `time` is s since the epoch."""

    run: str
    task_index: int | None
    stream: str
    level: str
    text: str
    time: float


# A named tuple's own __new__ takes twice as long, and lines come by the million.
_new_line = tuple.__new__


class Registration(NamedTuple):
    """A flow that this process serves: the backend may ask for runs of it."""

    flow: dict[str, Any]


class FlowRun(Scope):
    """One run of a flow, and the scope of the flow's own code.

    Attributes:
        id: UUID, made here or given with an execution request.
        flow: the registration body of the flow.
        started, ended: s since the epoch; `ended` is None while it runs.
        error: ``{"type", "message", "traceback"}`` of what ended it, or None.
        relieve: called now and then; gives the sender a moment when too much waits for it.
        given: tells the values that the flow was given, by name, with its defaults; set by its executor.
        retry_of: id of the run that this one repeats, or None.
        abandon: closes the run from outside, with a reason; set by its executor.
        task_count: how many task calls there were, known at the end; None: those never called count, too.
        cancelled: why the run is to end before its next task, or None.
    """

    __slots__ = (
        "id",
        "flow",
        "configuration",
        "parameters",
        "parent",
        "trigger",
        "started",
        "ended",
        "state",
        "error",
        "reason",
        "task_count",
        "put",
        "announced",
        "abandon",
        "relieve",
        "lines",
        "given",
        "retry_of",
        "cancelled",
        "_about",
        "_about_away",
        "__weakref__",
    )

    def __init__(
        self,
        flow: dict[str, Any],
        put: Put,
        *,
        run_id: str | None = None,
        configuration: str = "development",
        parameters: dict[str, Any] | None = None,
        parent: str | None = None,
        trigger: str = "call",
    ) -> None:
        self.id = run_id or new_id()
        self.flow = flow
        self.put = put
        self.configuration = configuration
        self.parameters = parameters or {}
        self.parent = parent
        self.trigger = trigger
        self.started = time()
        self.ended: float | None = None
        self.state = RUNNING
        self.error: dict[str, Any] | None = None
        self.reason: str | None = None
        self.task_count: int | None = 0
        self.relieve: Callable[[], None] = lambda: None
        self.lines = 0  # written so far
        self.abandon: Callable[[str], None] = lambda reason: None
        self.given: Callable[[], dict[str, Any]] = lambda: self.parameters
        self.retry_of: str | None = None
        self.cancelled: str | None = None
        self._about: RunInfo | None = None
        self._about_away: RunInfo | None = None
        self.announced = False  # whether the sender has told the beginning
        self.partials = {}

    @property
    def run(self) -> FlowRun:
        return self

    @property
    def name(self) -> str:
        name: str = self.flow["name"]
        return name

    def about(self) -> RunInfo:
        """What the flow's code may ask of its run; the same object each time."""
        if self._about is None:
            self._about = RunInfo(
                *(self.id, self.name, self.configuration, self.given(), self.trigger),
                *(dict(self.flow["tags"]), self.parent, self.started, self.retry_of),
            )
        return self._about

    def about_away(self) -> RunInfo:
        """The same for another process: the values as they are reported, so that they can travel."""
        if self._about_away is None:
            about = self.about()
            told = snapshot(about.parameters, longest=LONGEST_TEXT, most=MOST_ENTRIES)
            self._about_away = about._replace(parameters=told)
        return self._about_away

    def emit(self, stream: str, level: str, text: str) -> None:
        self.put(_new_line(LogLine, (self.id, None, stream, level, text, time())))
        self.lines += 1
        if not self.lines & RELIEVE_MASK:
            self.relieve()


class TaskRun(Scope):
    """One call of a task in a run, and the scope of the task's code.

    Attributes:
        index: counts the task calls of the run from 0.
        started, ended: s since the epoch; `ended` is None while it runs.
        progress: what the task itself said, 0–1, or None.
        result: a snapshot of its TaskResult, or None.
        error: ``{"type", "message", "traceback"}``, or None.
        attempt: the number of the present attempt, from 1; `started` is when it began.
        attempts: the earlier ones, as they are told (PROTOCOL part 4), or None.
        upstream: the indices of the tasks it waited for in a graph, or None.
        map_index: which element of a mapped task it is, or None.
        told: the state that the sender has told last, or None; `told_attempt`: the attempt then.
    """

    __slots__ = (
        "run",
        "index",
        "task",
        "started",
        "ended",
        "state",
        "attempt",
        "progress",
        "result",
        "error",
        "reason",
        "attempts",
        "upstream",
        "map_index",
        "told",
        "told_attempt",
    )

    def __init__(
        self,
        run: FlowRun,
        index: int,
        task: Task[..., Any],
        caller: Caller,
        started: float,
        upstream: tuple[int, ...] | None = None,
        map_index: int | None = None,
    ) -> None:
        self.run = run
        self.index = index
        self.task = task
        self.caller = caller
        self.started = started
        self.ended: float | None = None
        self.state = RUNNING
        self.attempt = 1
        self.progress: float | None = None
        self.result: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.reason: str | None = None
        self.attempts: list[dict[str, Any]] | None = None
        self.upstream = upstream
        self.map_index = map_index
        self.told: TaskState | None = None
        self.told_attempt = 1
        self.partials = {}

    def emit(self, stream: str, level: str, text: str) -> None:
        run = self.run
        run.put(_new_line(LogLine, (run.id, self.index, stream, level, text, time())))
        run.lines = lines = run.lines + 1
        if not lines & RELIEVE_MASK:
            run.relieve()

    def retrying(self, error: BaseException, reason: str) -> None:
        """An attempt has failed, and another one follows."""
        told = describe(error)
        if self.partials:
            self.flush_lines()
        token = current.set(self)  # so that the line stands in the task's log
        log.warning("task %r: %s: %s: %s", self.task.name, reason, told["type"], told["message"])
        current.reset(token)
        self.note_attempt(told, reason)
        self.error = told
        self.reason = reason
        self.state = RETRYING
        self.run.put(self)

    def note_attempt(
        self, error: dict[str, Any] | None, reason: str | None, worker: str | None = None
    ) -> None:
        """Keep the present attempt as one that another one follows."""
        attempts = self.attempts or []
        attempts = attempts[
            -MOST_ATTEMPTS + 1 :
        ]  # a new list: the sender may be reading the old one
        attempts.append(
            {
                "attempt": self.attempt,
                "started": int(self.started * 1000),
                "ended": int(max(self.started, time()) * 1000),
                "error": error,
                "reason": reason,
                "worker": worker,
            }
        )
        self.attempts = attempts

    def resumed(self) -> None:
        """The next attempt begins."""
        self.error = self.reason = self.progress = None
        self.started = time()
        self.attempt += 1
        self.state = RUNNING
        self.run.put(self)

    def report_progress(self, fraction: float) -> None:
        before = self.progress
        self.progress = fraction
        # One report per percent: a loop may call this a million times.
        if before is None or int(before * 100) != int(fraction * 100):
            self.run.put(self)


def result_snapshot(result: TaskResult, passed: bool) -> dict[str, Any]:
    """A TaskResult as JSON data; rows that are not mappings become ``{"value": row}``. Never raises."""
    table = snapshot(result.table)
    if not isinstance(table, list):
        table = [] if table is None else [table]
    note = "" if result.note is None else snapshot(result.note)
    return {
        "passed": passed,
        "note": note if isinstance(note, str) else str(note),
        "table": [row if isinstance(row, dict) else {"value": row} for row in table],
    }
