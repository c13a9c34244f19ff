"""The course of one task call: whether it is wanted, its attempts, and what it comes to.

`course` takes no step itself: it says which is next (an attempt, or a pause), and whoever drives it takes
it: a loop in the caller's thread, a coroutine, or the runner of a graph, which meanwhile does other things.
So all of them follow the same rules.
"""

from __future__ import annotations

import contextvars
import logging
import random
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Protocol

from perfect.definitions import TaskResult
from perfect.errors import TaskFailed, TaskTimeout, Uncacheable
from perfect.outcomes import Cached, Failed, Pending, Retrying, Running, Skipped, State, Success
from perfect.tasks import Task

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
) -> Course:
    """The steps of one call, and the state it ends in.

    Args:
        subject: what `when` tests, or MISSING.
    """
    state: State = Pending()
    try:
        if task.when is not None and (subject is MISSING or not task.when(subject)):
            tested = "there is nothing to test" if subject is MISSING else "`when` says no"
            return changed(task, state, Skipped(f"not wanted: {tested}"))
        key = _cache_key(task, args, kwargs)
        if key is not None and task.cache is not None:
            hit, value = task.cache.lookup(key)
            if hit:
                return changed(task, state, Cached("result of an earlier run", value))
    except Exception as error:  # the user's predicate or key function
        return changed(task, state, failed(task, error))
    attempt = 1
    while True:
        state = changed(task, state, Running(f"attempt {attempt}"))
        if state.is_finished():  # a handler has decided
            return state
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
            return changed(task, state, final)
        told = f"attempt {attempt} of {task.retries + 1} failed, the next follows in {pause:.3g} s"
        retrying = Retrying(told, final.result, time.time() + pause, attempt)
        state = changed(task, state, retrying)
        if state.is_finished():
            return state
        entry.retrying(final.result, told)
        yield pause
        attempt += 1
        entry.resumed()


def changed(subject: Any, old: State, new: State) -> State:
    """Tell the state handlers of a task or flow of a change; the state that they make of it."""
    for handler in subject.state_handlers:
        try:
            made = handler(subject, old, new)
        except Exception:  # a notification that fails must not fail what it tells of
            log.exception("perfect: a state handler of %r failed", subject.name)
            continue
        if isinstance(made, State):
            new = made
        elif made is not None:
            log.error("perfect: a state handler of %r returned no State: %r", subject.name, made)
    return new


def failed(task: Task[..., Any], error: BaseException) -> Failed:
    """The state after an exception."""
    message = f"{type(error).__name__}: {error}"
    return Failed(message, error, task.crucial_pass)


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
    if task.retry_on is not None and not task.retry_on(error):
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
        key: str = task.cache.key_for(_identity(task), args, kwargs, *_context(task))
        return key
    except Uncacheable as reason:
        log.warning("task %r is run, not looked up in its cache: %s", task.name, reason)
        return None


def _identity(task: Task[..., Any]) -> Callable[..., Any]:
    if task.func is not None:
        return task.func
    body: Callable[..., Any] = type(task).run
    return body


def _context(task: Task[..., Any]) -> tuple[Any, ...]:
    """What a subclass's `run` may know beside its arguments: the attributes that are not Task's own."""
    if task.func is not None:
        return ()
    own = vars(Task(name="any"))
    return ({name: value for name, value in vars(task).items() if name not in own},)


def _keep(task: Task[..., Any], key: str, result: Any) -> None:
    try:
        if task.cache is not None:
            task.cache.keep(key, result)
    except Exception as reason:  # no room, or a value that the store can't hold
        log.warning("the result of task %r is not kept for reuse: %s", task.name, reason)


# --- taking the steps -----------------------------------------------------------------------


def call(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a task outside any run, with all its options; an async one gives a coroutine."""
    steps = course(task, args, kwargs, UNTOLD, first_argument(args, kwargs))
    if task.is_async:
        return _value_of_coroutine(steps, task, args, kwargs)
    if task.is_generator:
        return _value_of_generator(steps, task, args, kwargs)
    return _value(drive(steps, task, task.body, args, kwargs))


async def _value_of_coroutine(
    steps: Course, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return _value(await drive_async(steps, task, task.body, args, kwargs))


def _value_of_generator(
    steps: Course, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, Any, Any]:
    state = begun(steps)
    if state is None:  # its one attempt is the caller's going through it
        return (yield from task.body(*args, **kwargs))
    return _value(state)


def _value(state: State) -> Any:
    """What a call returns, or raises, after its course."""
    if not state.is_failed():
        return state.result
    error = state.result
    if isinstance(error, TaskFailed):  # as without options: outside a run nobody judges it
        return error.result
    raise error


def first_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `when` tests of an eager call."""
    if args:
        return args[0]
    return next(iter(kwargs.values()), MISSING)


def begun(steps: Course) -> State | None:
    """Take a course to its first attempt; the state it ended in, if it came to none."""
    try:
        next(steps)
    except StopIteration as end:
        state: State = end.value
        return state
    return None


def drive(
    steps: Course,
    task: Task[..., Any],
    body: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> State:
    """Take all steps in this thread; what is no Exception (Ctrl+C) is raised."""
    try:
        pause = next(steps)
        while True:
            if pause is not None:
                time.sleep(pause)
                pause = next(steps)
                continue
            try:
                result = perform(task, body, args, kwargs)
            except Exception as error:
                pause = steps.throw(error)
            else:
                pause = steps.send(result)
    except StopIteration as end:
        state: State = end.value
        return state


async def drive_async(
    steps: Course,
    task: Task[..., Any],
    body: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> State:
    """The same in a coroutine."""
    import asyncio  # 25 ms; whoever is here has it already

    try:
        pause = next(steps)
        while True:
            if pause is not None:
                await asyncio.sleep(pause)
                pause = next(steps)
                continue
            try:
                result = await perform_async(task, body, args, kwargs)
            except Exception as error:
                pause = steps.throw(error)
            else:
                pause = steps.send(result)
    except StopIteration as end:
        state: State = end.value
        return state


def perform(
    task: Task[..., Any],
    body: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """One attempt, to its end: an async task gets an event loop, a generator's values become a list.

    Raises:
        TaskTimeout: the limit is reached; the thread that works at it is left to itself.
    """
    if task.is_async:
        import asyncio  # 25 ms, and only async tasks need it

        return asyncio.run(perform_async(task, body, args, kwargs))
    if task.timeout is not None:
        return _within(task.timeout, task, body, args, kwargs)
    result = body(*args, **kwargs)
    return list(result) if task.is_generator else result


async def perform_async(
    task: Task[..., Any],
    body: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """One attempt of an async task; at its limit it is cancelled."""
    import asyncio  # whoever is here has it already

    result = body(*args, **kwargs)
    if not hasattr(result, "__await__"):  # a stub may be a plain function
        return result
    if task.timeout is None:
        return await result
    limit = asyncio.timeout(task.timeout)
    try:
        async with limit:
            return await result
    except TimeoutError:
        if limit.expired():
            raise TaskTimeout(task.name, task.timeout) from None
        raise


def _within(
    seconds: float,
    task: Task[..., Any],
    body: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run in a thread of its own, in a copy of this context, and wait so long at most."""
    outcome: list[Any] = []
    raised: list[BaseException] = []
    ended = threading.Event()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            outcome.append(context.run(body, *args, **kwargs))
        except BaseException as error:
            raised.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, name=f"perfect-task-{task.name}", daemon=True)
    thread.start()
    if not ended.wait(seconds):
        log.warning(
            "task %r has reached its timeout of %g s; its thread can't be stopped and is left to itself",
            task.name,
            seconds,
        )
        raise TaskTimeout(task.name, seconds)
    thread.join()
    if raised:
        raise raised[0]
    return outcome[0]
