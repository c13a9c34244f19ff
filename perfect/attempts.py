"""The course of one task call: whether it is wanted, its attempts, and what it comes to.

`course` takes no step itself: it says which is next (an attempt, or a pause), and whoever drives it takes
it: `perfect.driving` in the caller's thread or in a coroutine, or the runner of a graph, which meanwhile does
other things. So all of them follow the same rules.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Generator
from typing import Any, Protocol

from perfect.definitions import TaskResult
from perfect.errors import TaskError, TaskFailed, Uncacheable
from perfect.failures import state_after
from perfect.outcomes import (
    Cached,
    Cancelled,
    Failed,
    Pending,
    Retrying,
    Running,
    Skipped,
    State,
    Success,
)
from perfect.signals import RunCancelled
from perfect.states import TaskState
from perfect.tasks import NOTES, Task

log = logging.getLogger("perfect")

MISSING: Any = object()  # where `when` has nothing to test
LONGEST_PAUSE = 366 * 86_400.0  # s

# Yields None for an attempt, whose result is sent in (or its exception thrown), or a pause in s.
Course = Generator[float | None, Any, State]


class Entry(Protocol):
    """What is told of a task call while it is under way."""

    def retrying(self, error: BaseException, reason: str) -> None:
        """An attempt has failed, and another one follows."""

    def resumed(self) -> None:
        """The next attempt begins."""


class Untold:
    """The entry of a call that nobody is told about."""

    def retrying(self, error: BaseException, reason: str) -> None:
        pass

    def resumed(self) -> None:
        pass


UNTOLD = Untold()


def course(
    task: Task[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    entry: Entry,
    subject: Any,
    *,
    reuse: bool = True,
) -> Course:
    """The steps of one call, and the state it ends in.

    What an attempt raised that is no Exception (Ctrl+C, sys.exit) is thrown in too, and comes out again.

    Args:
        subject: what `when` tests, or MISSING.
        reuse: whether the task's cache counts; not where a test has put something in the task's place.
    """
    state: State = Pending()
    try:
        if task.when is not None and (subject is MISSING or not task.when(subject)):
            tested = "there is nothing to test" if subject is MISSING else "`when` says no"
            return _ended(task, state, Skipped(f"not wanted: {tested}"))
        key = _cache_key(task, args, kwargs) if reuse else None
    except Exception as error:  # the user's predicate or key function
        return _ended(task, state, failed(task, error))
    hit, value = _looked_up(task, key)
    if hit:
        return _ended(task, state, Cached("result of an earlier run", value))
    attempt = 1
    try:
        while True:
            state = changed(task, state, Running(f"attempt {attempt}"))
            if state.is_finished():  # a handler has decided
                return _with_error(task, state)
            final: State
            try:
                result = yield None
            except Exception as error:
                final = failed(task, error)
            else:
                final = judged(task, result)
                if key is not None and final.is_successful():
                    _keep(task, key, result)
            pause = pause_after(task, attempt, final.result) if final.is_failed() else None
            if pause is None:
                return _ended(task, state, final)
            told = (
                f"attempt {attempt} of {task.retries + 1} failed, the next follows in {pause:.3g} s"
            )
            retrying = Retrying(told, final.result, time.time() + pause, attempt)
            state = changed(task, state, retrying)
            if state.is_finished():
                return _with_error(task, state)
            entry.retrying(final.result, told)
            yield pause
            attempt += 1
            entry.resumed()
    except GeneratorExit:  # whoever drove it has let it go
        raise
    except BaseException as error:
        changed(task, state, state_of(task, error))
        raise


def _ended(task: Task[..., Any], old: State, new: State) -> State:
    return _with_error(task, changed(task, old, new))


def _with_error(task: Task[..., Any], state: State) -> State:
    """A final state; a Failed that a state handler made gets the exception it is to be raised with."""
    if state.is_failed() and not isinstance(state.result, BaseException):
        says = state.message or "a state handler says so"
        state.result = TaskError(task.name, f"task {task.name!r} failed: {says}")
    return state


def changed(subject: Any, old: State, new: State) -> State:
    """Tell the state handlers of a task or flow of a change; the state that they make of it."""
    for handler in subject.state_handlers:
        try:
            made = handler(subject, old, new)
        except Exception:  # a notification that fails must not fail what it tells of
            log.exception("perfect: a state handler of %r failed", subject.name)
            continue
        if made is None:
            continue
        if not isinstance(made, State):
            log.error("perfect: a state handler of %r returned no State: %r", subject.name, made)
        elif new.is_finished() and not made.is_finished():  # nothing would follow
            log.error(
                "perfect: a state handler of %r may not make %r of %r", subject.name, made, new
            )
        else:
            new = made
    return new


def failed(task: Task[..., Any], error: BaseException) -> Failed:
    """The state after an exception."""
    return Failed(_sentence(error), error, task.crucial_pass)


def _sentence(error: BaseException) -> str:
    """The type of an exception, and what it says if it says anything."""
    name = type(error).__name__
    try:
        message = str(error)
    except Exception:  # the user's own __str__
        return name
    return f"{name}: {message}" if message else name


def state_of(task: Task[..., Any], error: BaseException) -> State:
    """The state after anything raised: Cancelled if the call was interrupted from outside."""
    if isinstance(error, RunCancelled):
        return Cancelled(str(error), error)
    if state_after(error) is TaskState.CANCELLED:
        return Cancelled(_sentence(error), error)
    return failed(task, error)


def judged(task: Task[..., Any], result: Any) -> State:
    """The state after a task has returned: a `TaskResult` may say that it did not pass."""
    if isinstance(result, TaskResult) and not has_passed(result):
        return failed(task, TaskFailed(task.name, result))
    return Success("", result)


def has_passed(result: TaskResult) -> bool:
    """Whether a TaskResult says that the task passed."""
    try:
        return bool(result.passed)
    except Exception:  # an array, say: nobody can tell
        return False


def pause_after(task: Task[..., Any], attempt: int, error: BaseException) -> float | None:
    """s to wait before the next attempt, or None if there is none.

    The n-th wait is ``delay · backoff^(n-1)``, give or take the part that `jitter` says.
    """
    if attempt > task.retries:
        return None
    try:
        if task.retry_on is not None and not task.retry_on(error):
            return None
    except Exception:  # the task's own error is what matters
        log.exception("perfect: `retry_on` of task %r failed, it is not tried again", task.name)
        return None
    try:
        pause = task.delay * task.backoff ** (attempt - 1)
    except OverflowError:
        pause = LONGEST_PAUSE
    if task.jitter:
        pause *= random.uniform(1 - task.jitter, 1 + task.jitter)
    return float(min(pause, LONGEST_PAUSE))


def _cache_key(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if task.cache is None:
        return None
    try:
        key: str = task.cache.key_for(task.body, args, kwargs, *_context(task))
        return key
    except Uncacheable as reason:
        log.warning("task %r is run, not looked up in its cache: %s", task.name, reason)
        return None


def _context(task: Task[..., Any]) -> tuple[Any, ...]:
    """What a subclass's `run` may know beside its arguments: the attributes that are not Task's own."""
    if task.func is not None:
        return ()
    return ({name: value for name, value in vars(task).items() if name not in _OWN},)


# What a Task has, so that an attribute of another name is a subclass's.
_OWN = {*vars(Task), *vars(Task(name="any")), *NOTES}


def _looked_up(task: Task[..., Any], key: str | None) -> tuple[bool, Any]:
    if key is None or task.cache is None:
        return False, None
    try:
        return task.cache.lookup(key)
    except Exception as reason:  # a store that can't be read must not keep the work from being done
        log.warning("task %r is run, its cache can't be read: %s", task.name, reason)
        return False, None


def _keep(task: Task[..., Any], key: str, result: Any) -> None:
    try:
        if task.cache is not None:
            task.cache.keep(key, result)
    except Exception as reason:  # no room, or a value that the store can't hold
        log.warning("the result of task %r is not kept for reuse: %s", task.name, reason)


def first_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `when` tests of an eager call."""
    if args:
        return args[0]
    return next(iter(kwargs.values()), MISSING)
