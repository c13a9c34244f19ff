"""A row of threads that do what is put before them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

MOST_THREADS = min(32, (os.cpu_count() or 1) + 4)  # as concurrent.futures has it

Job = Callable[[], object]  # raises nothing


class Workers:
    """Threads started one by one as jobs are put, up to a limit.

    They are daemons, unlike those of `concurrent.futures`: after Ctrl+C the process can end while a job
    is still at it.
    """

    def __init__(self, limit: int, name: str) -> None:
        self.limit = limit
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._ended: SimpleQueue[None] = SimpleQueue()  # one for each thread that has
        self._closed = False

    def put(self, job: Job) -> None:
        """Have a job done by the next free thread.

        Raises:
            RuntimeError: there is no thread, and none is to be had.
        """
        if len(self._threads) < self.limit:
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
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
            # Not join(): where Ctrl+C breaks that off, the thread loses its state while it still runs, and
            # the process may crash at its end (CPython 3.11).
            for _ in self._threads:
                self._ended.get()
            for thread in self._threads:
                thread.join()

    def _run(self) -> None:
        get = self._jobs.get
        while (job := get()) is not None:
            job()
            del job  # and with it what it holds, while this thread waits for the next
        self._ended.put(None)
