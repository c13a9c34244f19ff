"""The threads of perfect's own, and the one that carries requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from perfect.context import Detached, current
from perfect.errors import BackendError

log = logging.getLogger("perfect")


def spawn(name: str, target: Callable[[], None]) -> threading.Thread:
    """Start a daemon thread of perfect's own: what it prints belongs to no run."""

    def run() -> None:
        current.set(Detached())
        target()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


class Carrier:
    """The thread that carries requests, one at a time, while the sender looks after the backlog.

    Attributes:
        jobs: what to do; None ends the thread.
        replies: (True, what the job returned) or (False, what it raised).
    """

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self.replies: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
        self.thread = spawn("perfect-carrier", self._run)

    def close(self) -> None:
        """End the thread after the job it is at."""
        self.jobs.put(None)

    def _run(self) -> None:
        while (job := self.jobs.get()) is not None:
            try:
                reply = (True, job())
            except BackendError as error:
                reply = (False, error)
            except Exception as error:
                # An answer nobody thought of: like a backend that fails, and said once.
                log.exception("perfect: an answer of the backend can't be read")
                reply = (False, BackendError(f"{type(error).__name__}: {error}"))
            self.replies.put(reply)
