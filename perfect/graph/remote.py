"""Attempts made in another process: what is sent there, what is done there, and what comes home.

A task goes by its qualified name where it has one; the other process imports it. What it prints, logs and
says of its progress is sent home while it works.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Callable
from time import time
from typing import Any, NamedTuple

from perfect import capture
from perfect.attempts import perform
from perfect.context import PLAIN, Scope, current
from perfect.errors import NotSendable, TaskError
from perfect.failures import describe
from perfect.graph.executors.base import Work
from perfect.records import LogLine
from perfect.redaction import Redactor
from perfect.tasks import Task
from perfect.text import cut_line

FLUSH_AFTER = 0.05  # s that a line may wait for further ones to travel with

Send = Callable[[list["Said"]], None]


class Said(NamedTuple):
    """Something that a task said in another process.

    Attributes:
        stream: "stdout", "stderr", "logging", or "progress": then `text` is a fraction, 0–1.
        time: s since the epoch.
    """

    stream: str
    level: str
    text: str
    time: float


class Errand(NamedTuple):
    """An attempt to be made elsewhere.

    Attributes:
        name: the task's.
        module, qualname: where the task is found; None: `task` is the task itself.
        timeout: s, or None.
    """

    name: str
    module: str | None
    qualname: str | None
    task: Any
    args: Any
    kwargs: dict[str, Any]
    timeout: float | None


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        result: what the task returned; None if it raised.
        error: what it raised, or None.
        told: the error as it is told (`perfect.failures.describe`), with the traceback from there.
        said: what is left of what it said.
        began, ended: s since the epoch, by the other machine's clock.
        worker: who did it.
    """

    result: Any
    error: BaseException | None
    told: dict[str, Any] | None
    said: list[Said]
    began: float
    ended: float
    worker: str


class RemoteError(TaskError):
    """What a task raised in another process, where the exception itself can't travel.

    Attributes:
        told: ``{"type", "message", "traceback"}`` of it.
    """

    def __init__(self, task: str, told: dict[str, Any]) -> None:
        super().__init__(task, f"{told['type']}: {told['message']}")
        self.told = told


def errand_of(work: Work) -> Errand:
    """What is sent for an attempt.

    Raises:
        NotSendable: the task can't be found by name in another process.
    """
    task = work.task
    module, qualname = getattr(task, "__module__", None), getattr(task, "__qualname__", None)
    if task.func is None:  # of a subclass: the object itself travels
        return Errand(task.name, None, None, task, work.args, work.kwargs, task.timeout)
    found: Any = sys.modules.get(module or "")
    for part in (qualname or "").split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Task) or found.func is not task.func:
        raise NotSendable(
            task.name,
            f"task {task.name!r} can't be sent to another process: {module}.{qualname} is not where it is "
            "found; define it at the top level of a module, or run it in threads",
        )
    return Errand(task.name, module, qualname, None, work.args, work.kwargs, task.timeout)


class RemoteScope(Scope):
    """What a task's lines belong to in another process: they are gathered and sent home.

    Args:
        send: sends a few of them; called from the task's thread and from the one that flushes.
    """

    __slots__ = ("_send", "_said", "_lock")

    def __init__(self, send: Send) -> None:
        self.caller = PLAIN
        self.partials = {}
        self._send = send
        self._said: list[Said] = []
        self._lock = threading.Lock()

    def emit(self, stream: str, level: str, text: str) -> None:
        # Redacted here, because the secrets that are made here are known here only.
        line = cut_line(_redactor.redact_text(text))
        with self._lock:
            self._said.append(Said(stream, level, line, time()))

    def report_progress(self, fraction: float) -> None:
        with self._lock:
            if not (self._said and self._said[-1].stream == "progress"):
                self._said.append(Said("progress", "", str(fraction), time()))
            else:
                self._said[-1] = Said("progress", "", str(fraction), time())

    def take(self) -> list[Said]:
        """What has gathered."""
        with self._lock:
            said, self._said = self._said, []
            return said

    def flush(self) -> None:
        """Send what has gathered."""
        said = self.take()
        if said:
            self._send(said)


_redactor = Redactor(())


def carry_out(errand: Errand, send: Send, worker: str) -> Outcome:
    """Make an attempt in this process, sending home what it says; raises nothing."""
    scope = RemoteScope(send)
    result: Any = None
    error: BaseException | None = None
    ended = threading.Event()
    flusher = threading.Thread(target=_flush_until, args=(ended, scope), daemon=True)
    capture.begin()
    token = current.set(scope)
    began = time()
    try:
        flusher.start()
        task = _found(errand)
        result = perform(task, task.body, tuple(errand.args), errand.kwargs)
    except BaseException as raised:
        error = raised
    finally:
        current.reset(token)
        scope.flush_lines()
        capture.end()
        ended.set()
    told = None if error is None else describe(error)
    if error is not None:
        error = _able_to_travel(error, errand.name, told or {})
    return Outcome(result, error, told, scope.take(), began, time(), worker)


def hear(work: Work, said: list[Said]) -> None:
    """At home: what a task has said elsewhere, as if it had said it here."""
    entry = work.entry
    if entry is None:
        for one in said:
            if one.stream in ("stdout", "stderr"):
                print(one.text, file=getattr(sys, one.stream))
        return
    for one in said:
        if one.stream == "progress":
            entry.report_progress(float(one.text))
        else:
            entry.run.put(
                LogLine(entry.run.id, entry.index, one.stream, one.level, one.text, one.time)
            )


def take_home(work: Work, outcome: Outcome) -> None:
    """At home: what an attempt has come to."""
    hear(work, outcome.said)
    work.result, work.error = outcome.result, outcome.error
    if outcome.error is not None:
        outcome.error.__cause__ = None
        outcome.error.add_note(f"raised by {outcome.worker}:\n{(outcome.told or {})['traceback']}")


def _flush_until(ended: threading.Event, scope: RemoteScope) -> None:
    while not ended.wait(FLUSH_AFTER):
        scope.flush()


def _found(errand: Errand) -> Task[..., Any]:
    if errand.module is None:
        task: Task[..., Any] = errand.task
        return task
    __import__(errand.module)
    found: Any = sys.modules[errand.module]
    for part in (errand.qualname or "").split("."):
        found = getattr(found, part)
    assert isinstance(found, Task)
    return found


def _able_to_travel(error: BaseException, task: str, told: dict[str, Any]) -> BaseException:
    """The exception, or a RemoteError where pickling it does not work both ways."""
    error.__traceback__ = None
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RemoteError(task, told)


def this_process() -> str:
    """How this process is called in what is reported."""
    return f"process {os.getpid()}"
