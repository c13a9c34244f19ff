"""A row of threads that do what is put before them."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

MOST_THREADS = min(32, (os.cpu_count() or 1) + 4)  # as concurrent.futures has it

Job = Callable[[], object]  # raises nothing

# s that a wait may last at a time. A signal that comes just before one begins does not break it off, it is
# heard after it: Ctrl+C would have to be pressed twice.
LONGEST_WAIT = 1.0


def wait_for(event: threading.Event, seconds: float | None = None) -> bool:
    """Wait for an event, so long at most, or until Ctrl+C; whether it has come."""
    until = math.inf if seconds is None else time.monotonic() + seconds
    while True:
        left = until - time.monotonic()
        if event.wait(max(0.0, min(left, LONGEST_WAIT))):
            return True
        if left <= LONGEST_WAIT:
            return False


class Workers:
    """Threads started one by one as jobs are put, up to a limit.

    They are daemons, unlike those of `concurrent.futures`: after Ctrl+C the process can end while a job
    is still at it.
    """

    def __init__(self, limit: int, name: str) -> None:
        self.limit = limit
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[_Thread] = []
        self._closed = False

    def put(self, job: Job) -> None:
        """Have a job done by the next free thread.

        Raises:
            RuntimeError: there is no thread, and none is to be had.
        """
        if len(self._threads) < self.limit:
            name = f"{self._name}-{len(self._threads)}"
            thread = _Thread(self._jobs, name)
            try:
                thread.start()
                self._threads.append(thread)
            except RuntimeError:
                if not self._threads:
                    raise
                self.limit = len(self._threads)  # these have to do
        self._jobs.put(job)

    def close(self, *, wait: bool = True) -> None:
        """End the threads once what was put is done."""
        if self._closed:
            return
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        if wait:
            for thread in self._threads:
                if thread.is_alive():  # not in a forked child, where there is no such thread
                    # Before join(): a thread at which that is broken off (Ctrl+C) passes for ended from
                    # then on, though it still runs (CPython 3.11).
                    wait_for(thread.ended)
                    thread.join()


class _Thread(threading.Thread):
    def __init__(self, jobs: SimpleQueue[Job | None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.ended = threading.Event()
        self._jobs = jobs

    def run(self) -> None:
        get = self._jobs.get
        while (job := get()) is not None:
            job()
            del job  # and with it what it holds, while this thread waits for the next
        self.ended.set()
