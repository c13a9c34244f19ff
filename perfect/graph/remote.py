"""Attempts made in another process: what is sent there, what is done there, and what comes home.

A task goes by its qualified name, and the other process imports it; one of a `Task` subclass goes as the
object that it is. Retries, `when`, the cache and state handlers stay at home. There, tasks that the task
calls are plain calls; what it prints, logs and says of its progress is sent home while it works.
"""

from __future__ import annotations

import inspect
import logging
import os
import pickle
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from time import time
from typing import Any, NamedTuple

from perfect import capture
from perfect.context import PLAIN, Scope, current, enter_run, leave_run
from perfect.driving import perform
from perfect.errors import NotSendable, RemoteError, WorkerLost
from perfect.failures import describe
from perfect.graph.executors.base import Work
from perfect.records import RETRYING, LogLine
from perfect.redaction import Redactor
from perfect.tasks import Task
from perfect.text import cut_line

BURST = (
    20  # messages of lines in a window that are sent at once; what comes faster travels together
)
WINDOW = 0.05  # s
MOST_LOST = 3  # workers that one call may cost
# What the runner sees to, and no other process needs to know.
_KEPT_AT_HOME = ("body", "when", "retry_on", "cache", "trigger", "state_handlers", "wires")

log = logging.getLogger("perfect")

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
        module, qualname: where the task, or its function, is found; None: `task` is it.
        timeout: s, or None; held there.
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


# --- at home, before ------------------------------------------------------------------------


def errand_of(work: Work) -> Errand:
    """What is sent for an attempt.

    Raises:
        NotSendable: another process could not find the task.
    """
    task = work.task
    module = qualname = None
    sent: Any = None
    if task.func is None:
        sent = object.__new__(type(task))
        sent.__dict__.update(
            {name: value for name, value in task.__dict__.items() if name not in _KEPT_AT_HOME}
        )
    else:
        module = getattr(task, "__module__", None)
        qualname = getattr(task, "__qualname__", None)
        if not _is_found_as(task, module, qualname):
            module, qualname, sent = None, None, task.func
            problem = _why_not(sent)  # a partial or a bound method may travel itself
            if problem is not None:
                raise NotSendable(
                    task.name,
                    f"task {task.name!r} can't be sent to another process, which would look for it by "
                    f"its name: {problem}; define it at the top level of a module, or run it in threads",
                )
    return Errand(task.name, module, qualname, sent, work.args, work.kwargs, task.timeout)


def packed(errand: Errand) -> bytes:
    """An errand as bytes.

    Raises:
        NotSendable: something of it can't be pickled; it says what.
    """
    try:
        return pickle.dumps(errand, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise NotSendable(
            errand.name,
            f"task {errand.name!r} can't be sent to another process: {_culprit(errand, error)}; hand over "
            "what it can be made from there (a path, an address), or run the task in threads",
        ) from None


def _is_found_as(task: Task[..., Any], module: str | None, qualname: str | None) -> bool:
    found: Any = sys.modules.get(module or "")
    for part in (qualname or "").split("."):
        found = getattr(found, part, None)
    if isinstance(found, Task):  # also of copies with other options
        return found.func is task.func
    return found is not None and found is task.func


def _why_not(value: Any) -> str | None:
    """Why a value can't be pickled, or None."""
    try:
        pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _culprit(errand: Errand, error: Exception) -> str:
    """What of an errand can't be pickled."""
    try:
        names = list(inspect.signature(_found(errand).body).parameters)
    except Exception:  # a function that has no signature
        names = []
    arguments = [
        (repr(names[index]) if index < len(names) else f"number {index + 1}", value)
        for index, value in enumerate(errand.args)
    ]
    arguments += [(repr(name), value) for name, value in errand.kwargs.items()]
    for name, value in arguments:
        problem = _why_not(value)
        if problem is not None:
            return f"its argument {name} (a {_type_name(value)}) can't be pickled: {problem}"
    problem = _why_not(errand.task)
    what = "it is an object that" if problem else "its arguments"
    return f"{what} can't be pickled: {problem or f'{type(error).__name__}: {error}'}"


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


# --- there ----------------------------------------------------------------------------------


class RemoteScope(Scope):
    """What a task's lines belong to in another process: they are sent home, in order.

    A line leaves at once, so that what a task says before it crashes is known; only where very many come do
    they wait for each other, `WINDOW` s at most.

    Args:
        send: sends a few of them and raises nothing; called from any thread, by one at a time.
    """

    __slots__ = (
        "_send",
        "_said",
        "_lock",
        "_pid",
        "_sending",
        "_window",
        "_sent",
        "_timer",
        "_over",
    )

    def __init__(self, send: Send) -> None:
        self.caller = PLAIN
        self.partials = {}
        self._send = send
        self._said: list[Said] = []
        self._lock = threading.RLock()  # a signal handler may print in the middle of it
        self._pid = os.getpid()
        self._sending = False
        self._window = 0.0  # when the present one began
        self._sent = 0  # messages in it
        self._timer: threading.Timer | None = None
        self._over = False

    def emit(self, stream: str, level: str, text: str) -> None:
        # Redacted here, because the secrets that are made here are known here only.
        self._add(Said(stream, level, cut_line(_redactor.redact_text(text)), time()))

    def report_progress(self, fraction: float) -> None:
        self._add(Said("progress", "", str(fraction), time()))

    def flush(self) -> None:
        """Send what has gathered."""
        with self._lock:
            self._timer = None
            if self._said and not self._sending:
                self._sending = True
                try:
                    said, self._said = self._said, []
                    self._send(said)
                finally:
                    self._sending = False

    def take(self) -> list[Said]:
        """The task has ended: what is left of what it said. Nothing is sent after it."""
        with self._lock:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
            said, self._said = self._said, []
            return said

    def _add(self, said: Said) -> None:
        if os.getpid() != self._pid:  # in a child of this process, which must not write in between
            return
        with self._lock:
            if self._over:  # a thread that outlives its task
                return
            if said.stream == "progress" and self._said and self._said[-1].stream == "progress":
                self._said[-1] = said  # a loop may report a million times
            else:
                self._said.append(said)
            if said.time - self._window > WINDOW:
                self._window, self._sent = said.time, 0
            self._sent += 1
            if self._sent <= BURST:
                self.flush()
            elif self._timer is None:
                self._timer = threading.Timer(WINDOW, self.flush)
                self._timer.daemon = True
                self._timer.start()


_redactor = Redactor(())


def carry_out(
    errand: Errand,
    send: Send | None,
    worker: str,
    begun: Callable[[], None] | None = None,
    dumps: Callable[[Any], bytes] = pickle.dumps,
) -> Outcome:
    """Make an attempt in this process; raises nothing.

    Args:
        send: sends home what the task says; None: nobody wants to know.
        begun: called when everything is there and the task begins.
        dumps: pickles what the task raises.
    """
    scope = None if send is None else RemoteScope(send)
    token = current.set(scope)
    result: Any = None
    error: BaseException | None = None
    began = time()
    if scope is not None:
        capture.begin()
        enter_run(scope)  # what threads print that the task starts is the task's
    try:
        task = _found_there(errand)
        if begun is not None:
            begun()
        began = time()
        result = perform(task, task.body, tuple(errand.args), errand.kwargs)
    except BaseException as raised:
        error = raised
    finally:
        if scope is not None:
            leave_run(scope)
            scope.flush_lines()
            capture.end()
        current.reset(token)
    told = None
    if error is not None:
        told = _redactor.redact(describe(error))
        error = _able_to_travel(error, errand.name, told, dumps)
    return Outcome(
        result, error, told, [] if scope is None else scope.take(), began, time(), worker
    )


def not_carried_out(task: str, problem: str, worker: str) -> Outcome:
    """What came of an errand that could not be read there, or whose result can't leave it."""
    error = NotSendable(task, problem)
    now = time()
    return Outcome(None, error, describe(error), [], now, now, worker)


def packed_outcome(errand: Errand, outcome: Outcome) -> bytes:
    """An outcome as bytes; where it can't be pickled, that is the outcome."""
    try:
        return pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        problem = (
            f"the result of task {errand.name!r} (a {_type_name(outcome.result)}) can't be sent home from "
            f"another process: {type(error).__name__}: {error}; return what it can be made from, or run "
            "the task in threads"
        )
        failed = not_carried_out(errand.name, problem, outcome.worker)
        return pickle.dumps(failed._replace(said=outcome.said), pickle.HIGHEST_PROTOCOL)


def this_process() -> str:
    """How this process is called in what is reported."""
    return f"process {os.getpid()}"


def _found(errand: Errand) -> Task[..., Any]:
    found: Any = errand.task
    if errand.module is not None:
        found = import_module(errand.module)
        for part in (errand.qualname or "").split("."):
            found = getattr(found, part)
    if not isinstance(found, Task):  # `made = task(function)`: the name is the function's
        return Task(found, name=errand.name)
    if found.func is None:
        found.body = found.run
    return found


def _found_there(errand: Errand) -> Task[..., Any]:
    try:
        task = _found(errand)
    except Exception as error:
        raise NotSendable(
            errand.name,
            f"task {errand.name!r} is not found in another process as {errand.module}.{errand.qualname}: "
            f"{type(error).__name__}: {error}; define it in a module that can be imported there",
        ) from error
    if (task.name, task.timeout) != (errand.name, errand.timeout):  # a copy's options
        task = task.copy()
        task.name, task.timeout = errand.name, errand.timeout
    return task


def _able_to_travel(
    error: BaseException, task: str, told: dict[str, Any], dumps: Callable[[Any], bytes]
) -> BaseException:
    """The exception, or a RemoteError where pickling it does not work both ways."""
    error.__traceback__ = None
    try:
        if type(pickle.loads(dumps(error))) is type(error):
            return error
    except Exception:
        pass
    return RemoteError(task, told)


# --- at home, meanwhile and afterwards ------------------------------------------------------


def begun(work: Work) -> None:
    """An attempt begins elsewhere: it is told."""
    if work.entry is not None and work.entry.state is RETRYING:  # a worker was lost before
        work.resumed()
    else:
        work.begin()


def hear(work: Work, said: list[Said]) -> None:
    """What a task has said elsewhere, as if it had said it here.

    Without a task run to tell it of, it is printed.
    """
    entry = work.entry
    if entry is None:
        for one in said:
            if one.stream in ("stdout", "stderr"):
                print(one.text, file=getattr(sys, one.stream))
        return
    run = entry.run
    for one in said:
        if one.stream == "progress":
            entry.report_progress(float(one.text))
        else:
            run.put(LogLine(run.id, entry.index, one.stream, one.level, one.text, one.time))
    run.relieve()


def take_home(work: Work, outcome: Outcome) -> None:
    """What an attempt has come to."""
    hear(work, outcome.said)
    work.result, work.error = outcome.result, outcome.error
    if outcome.error is not None and outcome.told is not None:
        # Told instead of what can be seen of it here, which is nothing (`perfect.failures.describe`).
        outcome.error.__dict__["__perfect_told__"] = outcome.told
        if outcome.told["traceback"]:
            outcome.error.add_note(f"in {outcome.worker}:\n{outcome.told['traceback']}")


def lost(work: Work, worker: str) -> bool:
    """The worker is gone that was at an attempt: whether it is to be made again, by another one.

    That is told as a further attempt and is none of the task's retries. The third time it is not made again:
    `work.error` is a WorkerLost then.

    Args:
        worker: who it was, and what became of it.
    """
    error = WorkerLost(work.task.name, worker)
    work.losses = getattr(work, "losses", 0) + 1
    if work.losses >= MOST_LOST:
        work.error = error
        return False
    reason = f"{worker} was lost; the task is computed again elsewhere"
    work.begin()
    entry = work.entry
    token = None if entry is None else current.set(entry)  # so that the line stands in its log
    log.warning("task %r: %s", work.task.name, reason)
    if entry is not None and token is not None:
        current.reset(token)
        told = describe(error)
        entry.note_attempt(told, reason, worker)
        entry.error, entry.reason, entry.state = told, reason, RETRYING
        entry.run.put(entry)
    return True
