"""SIGTERM and cancellation as exceptions, so that a run is closed and `finally` blocks run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(SystemExit):
    """Raised in the main thread by SIGTERM; the process exits with 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class RunCancelled(BaseException):
    """Raised in a run that is cancelled from outside: at its next task, in the pause before a retry, or at its end.

    It is no Exception, so that a flow's ``except Exception`` does not hold it up; a flow called by a program ends
    with it.
    """


def _raise(signum: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
    raise Terminated


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`: only in the main thread, and only if nobody else handles it."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _raise:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
