"""Attempts made in another process: what is sent there, and what comes home (`perfect.graph.away` is there).

A task goes by its qualified name, and the other process imports it; one of a `Task` subclass goes as the
object that it is. Retries, `when`, the cache and state handlers stay at home.
"""

from __future__ import annotations

import inspect
import logging
import pickle
import sys
from importlib import import_module
from typing import Any, NamedTuple

from perfect.about import RunInfo
from perfect.context import current
from perfect.errors import NotSendable, WorkerLost
from perfect.failures import describe
from perfect.graph.executors.base import Work
from perfect.records import RETRYING, LogLine
from perfect.signals import RunCancelled
from perfect.tasks import Task

MOST_LOST = 3  # workers that one call may cost
# What the runner sees to, and no other process needs to know.
_KEPT_AT_HOME = ("body", "when", "retry_on", "cache", "trigger", "state_handlers", "wires")

log = logging.getLogger("perfect")


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
        about: the run that it is made for; None: one that nobody is told of.
    """

    name: str
    module: str | None
    qualname: str | None
    task: Any
    args: Any
    kwargs: dict[str, Any]
    timeout: float | None
    about: RunInfo | None = None


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
    return Errand(
        *(task.name, module, qualname, sent, work.args, work.kwargs, task.timeout), about_run(work)
    )


def about_run(work: Work) -> RunInfo | None:
    """What the task may ask there of the run that it is part of."""
    return None if work.tracker is None else work.tracker.run.about_away()


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
        names = list(inspect.signature(found(errand).body).parameters)
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
            return f"its argument {name} (a {type_name(value)}) can't be pickled: {problem}"
    problem = _why_not(errand.task)
    what = "it is an object that" if problem else "its arguments"
    return f"{what} can't be pickled: {problem or f'{type(error).__name__}: {error}'}"


def type_name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def found(errand: Errand) -> Task[..., Any]:
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


# --- at home, meanwhile and afterwards ------------------------------------------------------


def begun(work: Work) -> None:
    """An attempt begins elsewhere: it is told."""
    if work.entry is not None and work.entry.state is RETRYING:  # a worker was lost before
        work.resumed()
        return
    try:
        work.begin()
    except RunCancelled:  # it did not know; what it says and becomes is told all the same
        work.begin(begun=False)
        if work.entry is not None:
            work.entry.run.put(work.entry)  # its lines come after it


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
