"""`Task.submit` and `Task.map` in eager flows: each call runs in a thread, in a copy of its caller's context."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from perfect.mapping import Row
from perfect.tasks import Task
from perfect.workers import MOST_THREADS, Workers

AHEAD = 4 * MOST_THREADS  # elements of a map that are under way: its arguments may be a generator

Call = Callable[[tuple[Any, ...], dict[str, Any]], Any]


class FlowPool:
    """The threads of one flow run."""

    def __init__(self) -> None:
        self._workers = Workers(MOST_THREADS, "perfect-pool")
        self._inside = threading.local()
        self._waiting: set[Future[Any]] = set()

    def submit(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Have a call made by a thread of the pool; futures among the arguments stand for their results."""
        future: Future[Any] = Future()
        if getattr(self._inside, "pool", False):
            # Waiting in a pool's thread for another of its threads could wait forever.
            settle(future, call, args, kwargs)
            return future
        context = contextvars.copy_context()
        self._waiting.add(future)

        def work() -> None:
            self._inside.pool = True
            self._waiting.discard(future)
            context.run(settle, future, call, args, kwargs)

        self._workers.put(work)
        return future

    def map(self, call: Callable[[int], Call], rows: Iterable[Row]) -> list[Any]:
        """Make a call for each row of arguments; what was begun has ended when it returns or raises."""
        futures: list[Future[Any]] = []
        try:
            for index, (args, kwargs) in enumerate(rows):
                futures.append(self.submit(call(index), args, kwargs))
                if index >= AHEAD:
                    futures[index - AHEAD].result()  # also: no further ones after a failure
            return [future.result() for future in futures]
        except Exception:
            for future in futures:
                future.cancel()
            for future in futures:
                if not future.cancelled():
                    future.exception()
            raise

    def close(self, *, cancel: bool, wait: bool = True) -> None:
        """Let what was begun end; what was not is cancelled, if it shall be."""
        if cancel:
            for future in tuple(self._waiting):
                future.cancel()
        self._workers.close(wait=wait)


def settle(future: Future[Any], call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Make a call, and keep in the future what it came to."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        args = tuple(_awaited(value) for value in args)
        future.set_result(call(args, {name: _awaited(value) for name, value in kwargs.items()}))
    except BaseException as error:
        future.set_exception(error)


def to_its_end(task: Task[..., Any], result: Any) -> Any:
    """What a call in a thread comes to: a coroutine is run, a generator gone through into a list."""
    if task.is_async and hasattr(result, "__await__"):
        import asyncio  # 25 ms, and only async tasks need it

        async def wait() -> Any:
            return await result

        return asyncio.run(wait())
    return list(result) if task.is_generator else result


def done_at_once(
    task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Future[Any]:
    """`Task.submit` where no run is."""
    future: Future[Any] = Future()
    settle(future, lambda a, k: to_its_end(task, task.call_alone(a, k)), args, kwargs)
    return future


def _awaited(value: Any) -> Any:
    return value.result() if isinstance(value, Future) else value
