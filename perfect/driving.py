"""Takes the steps of a task call: makes its attempts, each within its limit, and waits between them."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from perfect.attempts import UNTOLD, Course, course, first_argument
from perfect.context import cancellation
from perfect.errors import TaskFailed, TaskTimeout
from perfect.outcomes import State
from perfect.signals import RunCancelled
from perfect.tasks import Task
from perfect.workers import wait_for

log = logging.getLogger("perfect")


LONGEST_REST = 0.2  # s that a pause may go on once its run is cancelled


def rest(seconds: float) -> None:
    """Wait so long, or until Ctrl+C.

    Raises:
        RunCancelled: the run is not to go on.
    """
    until = time.monotonic() + seconds
    while (left := _left(until)) > 0:
        time.sleep(min(left, LONGEST_REST))


async def rest_async(seconds: float) -> None:
    """The same in a coroutine."""
    import asyncio  # whoever is here has it already

    until = time.monotonic() + seconds
    while (left := _left(until)) > 0:
        await asyncio.sleep(min(left, LONGEST_REST))


def _left(until: float) -> float:
    reason = cancellation()
    if reason is not None:
        raise RunCancelled(reason)
    return until - time.monotonic()


def call(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a task outside any run, with all its options; an async one gives a coroutine."""
    steps = course(task, args, kwargs, UNTOLD, first_argument(args, kwargs))
    if task.is_async:
        return _value_of_coroutine(steps, task, args, kwargs)
    if task.is_generator:
        return _value_of_generator(steps, task, args, kwargs)
    return _value(task, drive(steps, task, task.body, args, kwargs))


async def _value_of_coroutine(
    steps: Course, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return _value(task, await drive_async(steps, task, task.body, args, kwargs))


def _value_of_generator(
    steps: Course, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, Any, Any]:
    state = begun(steps)
    if state is None:  # its one attempt is the caller's going through it
        try:
            result = yield from task.body(*args, **kwargs)
        except GeneratorExit:  # its consumer has seen enough
            ended(steps, None)
            raise
        except BaseException as error:
            state = ended(steps, error)
        else:
            state = ended(steps, None, result)
    return _value(task, state)


def _value(task: Task[..., Any], state: State) -> Any:
    """What a call returns, or raises, after its course."""
    if not state.is_failed():
        return state.result
    error = state.result
    if isinstance(error, TaskFailed) and error.task == task.name:
        # As without options: outside a run nobody judges it.
        return error.result
    raise error


def begun(steps: Course) -> State | None:
    """Take a course to its first attempt; the state it ended in, if it came to none."""
    try:
        next(steps)
    except StopIteration as end:
        state: State = end.value
        return state
    return None


def ended(steps: Course, error: BaseException | None, result: Any = None) -> State:
    """Say what the attempt of a task that is never retried (a generator) came to: its final state."""
    try:
        steps.send(result) if error is None else steps.throw(error)
    except StopIteration as end:
        state: State = end.value
        return state
    raise AssertionError("a generator task is tried again")


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
            result = None
            try:
                if pause is None:
                    result = perform(task, body, args, kwargs)
                else:
                    rest(pause)
            except BaseException as error:
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
    try:
        pause = next(steps)
        while True:
            result = None
            try:
                if pause is None:
                    result = await perform_async(task, body, args, kwargs)
                else:
                    await rest_async(pause)
            except BaseException as error:
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
        return _awaited(perform_async(task, body, args, kwargs))
    if task.timeout is not None:
        return _within(task.timeout, task, body, args, kwargs)
    result = body(*args, **kwargs)
    return list(result) if task.is_generator else result


def to_its_end(task: Task[..., Any], result: Any) -> Any:
    """What a call comes to where nobody awaits it or goes through it."""
    if task.is_async and hasattr(result, "__await__"):
        return _awaited(result)
    return list(result) if task.is_generator else result


def _awaited(result: Awaitable[Any]) -> Any:
    """Await in this thread; where it has a running event loop, in one beside it."""
    import asyncio  # 25 ms, and only async tasks need it

    async def wait() -> Any:
        return await result

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    _, value = _beside("perfect-loop", None, asyncio.run, wait())
    return value


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
            result = await result
    except TimeoutError:
        if not limit.expired():  # the task's own
            raise
    if limit.expired():  # also where it took no notice of being cancelled
        raise TaskTimeout(task.name, task.timeout) from None
    return result


def _within(
    seconds: float,
    task: Task[..., Any],
    body: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    in_time, result = _beside(f"perfect-task-{task.name}", seconds, body, *args, **kwargs)
    if in_time:
        return result
    log.warning(
        "task %r has reached its timeout of %g s; its thread can't be stopped and is left to itself",
        task.name,
        seconds,
    )
    raise TaskTimeout(task.name, seconds)


def _beside(
    thread_name: str,
    seconds: float | None,
    function: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> tuple[bool, Any]:
    """Call a function in a thread of its own, in a copy of this context, and wait so long at most.

    Returns:
        Whether it came to its end, and what it returned.
    """
    results: list[Any] = []
    raised: list[BaseException] = []
    ended = (
        threading.Event()
    )  # a join that Ctrl+C breaks off takes the thread for ended (CPython 3.11)
    context = contextvars.copy_context()

    def work() -> None:
        try:
            results.append(context.run(function, *args, **kwargs))
        except BaseException as error:
            raised.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, name=thread_name, daemon=True)
    thread.start()
    if not wait_for(ended, seconds):
        return False, None
    thread.join()
    if results:
        return True, results[0]
    error = raised.pop()
    try:
        raise error
    finally:
        del error  # its traceback holds this frame
