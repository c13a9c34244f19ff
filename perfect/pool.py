"""`Task.submit` and `Task.map` in eager flows: each call runs in a thread, in a copy of its caller's context."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar, copy_context
from typing import Any

from perfect.driving import to_its_end
from perfect.mapping import Row
from perfect.signals import RunCancelled
from perfect.tasks import Task
from perfect.workers import LONGEST_WAIT, MOST_THREADS, Workers

AHEAD = 4 * MOST_THREADS  # elements of a map that are under way: its arguments may be a generator

Call = Callable[[tuple[Any, ...], dict[str, Any]], Any]

_inside: ContextVar[FlowPool | None] = ContextVar("perfect_pool", default=None)


class FlowPool:
    """The threads of one flow run.

    A call that one of its calls submits is made at once, by the thread that submits it: waiting in a thread
    of the pool for another of its threads could wait forever.
    """

    def __init__(self) -> None:
        self._workers = Workers(MOST_THREADS, "perfect-pool")
        self._waiting: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Have a call made by a thread of the pool; futures among the arguments stand for their results."""
        future: Future[Any] = Future()
        if _inside.get() is self or not self._put(future, call, args, kwargs):
            settle(future, call, args, kwargs)
        return future

    def _put(
        self, future: Future[Any], call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        """Whether a thread will make the call."""
        context = copy_context()
        waiting = self._waiting

        def work() -> None:
            waiting.discard(future)
            context.run(_inside.set, self)
            context.run(settle, future, call, args, kwargs)

        with self._lock:
            if self._closed:  # a thread of the user's outlives the flow
                return False
            waiting.add(future)
            try:
                self._workers.put(work)
            except RuntimeError:  # no thread is to be had
                waiting.discard(future)
                return False
        return True

    def map(self, call: Callable[[int], Call], rows: Iterable[Row]) -> list[Any]:
        """Make a call for each row of arguments; what was begun has ended when it returns or raises."""
        if _inside.get() is self:
            return [_made(call(index), *row) for index, row in enumerate(rows)]
        futures: list[Future[Any]] = []
        try:
            for index, (args, kwargs) in enumerate(rows):
                futures.append(self.submit(call(index), args, kwargs))
                if index >= AHEAD:
                    result_of(futures[index - AHEAD])  # also: no further ones after a failure
            return [result_of(future) for future in futures]
        except (Exception, RunCancelled):
            for future in futures:
                future.cancel()
            for future in futures:
                _wait(future)
            raise

    def close(self, *, cancel: bool, wait: bool = True) -> None:
        """Let what was begun end; what was not is cancelled, if it shall be."""
        with self._lock:
            self._closed = True
        if cancel:
            for future in tuple(self._waiting):
                future.cancel()
        self._workers.close(wait=wait)

    async def close_async(self, *, cancel: bool) -> None:
        """The same where an event loop runs: what a thread is at may need the loop to end."""
        import asyncio  # whoever is here has it already

        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def wait() -> None:
            self.close(cancel=cancel)
            try:
                loop.call_soon_threadsafe(ended.set)
            except RuntimeError:  # the loop was closed meanwhile: Ctrl+C
                pass

        # Not asyncio.to_thread: the loop waits for its threads, also after Ctrl+C.
        threading.Thread(target=wait, name="perfect-pool-end", daemon=True).start()
        await ended.wait()


def settle(future: Future[Any], call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Make a call, and keep in the future what it came to."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = _made(call, args, kwargs)
    except BaseException as error:
        future.set_exception(error)
        del future  # the error's traceback holds this frame
    else:
        future.set_result(result)


def done_at_once(
    task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Future[Any]:
    """`Task.submit` where no run is."""
    future: Future[Any] = Future()
    settle(future, lambda a, k: to_its_end(task, task.call_alone(a, k)), args, kwargs)
    return future


def result_of(future: Future[Any]) -> Any:
    """What a future comes to; Ctrl+C ends the wait for it."""
    _wait(future)
    return future.result()


def _wait(future: Future[Any]) -> None:
    while not future.done():
        try:
            future.exception(LONGEST_WAIT)
        except (TimeoutError, CancelledError):
            pass


def awaited(value: Any) -> Any:
    """The result of a future, and anything else as it is."""
    return result_of(value) if isinstance(value, Future) else value


def _made(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args = tuple([awaited(value) for value in args])
    return call(
        args, {name: awaited(value) for name, value in kwargs.items()} if kwargs else kwargs
    )
