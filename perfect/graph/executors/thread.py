"""Tasks side by side in threads of this process."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue

from perfect.errors import ConfigurationError
from perfect.graph.executors.base import Executor, Pool, Work
from perfect.workers import MOST_THREADS, Workers

# Handed over beyond what the threads are at: a thread that ends a small task has the next one there.
AHEAD = 1000


class ThreadExecutor(Executor):
    """Runs tasks in threads.

    Args:
        max_workers: how many; default: as `concurrent.futures` has it, cores + 4, at most 32.

    Raises:
        ConfigurationError: it is no whole number of 1 or more.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        self.max_workers = checked_workers(max_workers) or MOST_THREADS

    def start(self) -> Pool:
        return _Threads(self.max_workers)


class _Threads(Pool):
    inline = True

    def __init__(self, limit: int) -> None:
        self.slots = limit + AHEAD
        self._workers = Workers(limit, "perfect-thread")
        self._waiting: deque[Work] = deque()  # in the order of their beginnings
        self._ended: SimpleQueue[Work] = SimpleQueue()
        # What the caller has in its context variables holds for its tasks too.
        self._context = contextvars.copy_context()

    def submit(self, work: Work) -> None:
        if work.urgent:
            self._waiting.appendleft(work)
        else:
            self._waiting.append(work)
        self._workers.put(self._make_next)

    def _make_next(self) -> None:
        try:
            work = self._waiting.popleft()
        except IndexError:  # withdrawn
            return
        self.make(work)
        self._ended.put(work)

    def make(self, work: Work) -> None:
        # A context can't be in two threads; what a task sets in its copy stays there.
        self._context.copy().run(work.make)

    def withdraw(self) -> Iterable[Work]:
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._waiting.popleft())
        return taken

    def wait(self, timeout: float | None) -> Iterable[Work]:
        ended = self._ended
        try:
            found = [ended.get(timeout=timeout)]
        except Empty:
            return ()
        for _ in range(ended.qsize()):
            found.append(ended.get())
        return found

    def close(self, *, hurried: bool) -> None:
        self.withdraw()
        self._workers.close(wait=not hurried)


def checked_workers(max_workers: int | None) -> int | None:
    """A number of workers: a whole number of 1 or more, or None."""
    if max_workers is None:
        return None
    if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
        raise ConfigurationError("max_workers", max_workers, "is no whole number of 1 or more")
    return max_workers
