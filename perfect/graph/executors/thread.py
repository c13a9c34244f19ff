"""Tasks side by side in threads of this process."""

from __future__ import annotations

import contextvars
from collections.abc import Iterable
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
        self._ended: SimpleQueue[Work] = SimpleQueue()
        # What the caller has in its context variables holds for its tasks too.
        self._context = contextvars.copy_context()

    def submit(self, work: Work) -> None:
        self._workers.put(lambda: self._make(work))

    def _make(self, work: Work) -> None:
        work.make()
        self._ended.put(work)

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
        self._workers.close(wait=not hurried)


def checked_workers(max_workers: int | None) -> int | None:
    """A number of workers: a whole number of 1 or more, or None."""
    if max_workers is None:
        return None
    if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
        raise ConfigurationError("max_workers", max_workers, "is no whole number of 1 or more")
    return max_workers
