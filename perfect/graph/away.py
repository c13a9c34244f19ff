"""Attempts made in another process: what is done there.

Tasks that the task calls are plain calls; what it prints, logs and says of its progress is sent home
while it works, and it can ask whether its run is cancelled.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from time import time
from typing import Any

from perfect import capture
from perfect.about import RunInfo
from perfect.context import PLAIN, Scope, current, enter_run, leave_run
from perfect.driving import perform
from perfect.errors import NotSendable, RemoteError
from perfect.failures import describe
from perfect.graph.remote import Errand, Outcome, Said, found, type_name
from perfect.redaction import Redactor
from perfect.session import CANCELLED
from perfect.signals import RunCancelled
from perfect.tasks import Task
from perfect.text import cut_line

BURST = (
    20  # messages of lines in a window that are sent at once; what comes faster travels together
)
WINDOW = 0.05  # s

Send = Callable[[list[Said]], None]


def _goes_on() -> bool:
    return False


class RemoteScope(Scope):
    """What a task's lines belong to in another process: they are sent home, in order.

    A line leaves at once, so that what a task says before it crashes is known; only where very many come do
    they wait for each other, `WINDOW` s at most.

    Args:
        send: sends a few of them and raises nothing; called from any thread, by one at a time.
        about: the run that the task is part of.
        cancelled: whether that is to end.
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
        "_about",
        "_cancelled",
    )

    def __init__(
        self,
        send: Send,
        about: RunInfo | None = None,
        cancelled: Callable[[], bool] = _goes_on,
    ) -> None:
        self.caller = PLAIN
        self._about = about
        self._cancelled = cancelled
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

    def about(self) -> RunInfo | None:
        return self._about

    def cancellation(self) -> str | None:
        return CANCELLED if self._cancelled() else None

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
    cancelled: Callable[[], bool] = _goes_on,
) -> Outcome:
    """Make an attempt in this process; raises nothing.

    Args:
        send: sends home what the task says; None: nobody wants to know.
        begun: called when everything is there and the task begins.
        dumps: pickles what the task raises.
        cancelled: whether the run is to end; asked by any thread.
    """
    scope = None if send is None else RemoteScope(send, errand.about, cancelled)
    token = current.set(scope)
    result: Any = None
    error: BaseException | None = None
    began = time()
    if scope is not None:
        capture.begin()
        enter_run(scope)  # what threads print that the task starts is the task's
    try:
        task = _found_there(errand)
        if cancelled():
            raise RunCancelled(CANCELLED)
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
            f"the result of task {errand.name!r} (a {type_name(outcome.result)}) can't be sent home from "
            f"another process: {type(error).__name__}: {error}; return what it can be made from, or run "
            "the task in threads"
        )
        failed = not_carried_out(errand.name, problem, outcome.worker)
        return pickle.dumps(failed._replace(said=outcome.said), pickle.HIGHEST_PROTOCOL)


def this_process() -> str:
    """How this process is called in what is reported."""
    return f"process {os.getpid()}"


def _found_there(errand: Errand) -> Task[..., Any]:
    try:
        task = found(errand)
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
