"""One task after the other, in the thread that runs the graph."""

from __future__ import annotations

from collections.abc import Iterable

from perfect.graph.executors.base import Executor, Pool, Work


class LocalExecutor(Executor):
    """Runs tasks one after the other in the calling thread: for debuggers, tests and small graphs."""

    def start(self) -> Pool:
        return _Here()


class _Here(Pool):
    slots = 1
    inline = True

    def __init__(self) -> None:
        self._done: list[Work] = []

    def submit(self, work: Work) -> None:
        work.make()
        self._done.append(work)

    def wait(self, timeout: float | None) -> Iterable[Work]:
        done, self._done = self._done, []
        return done

    def close(self, *, hurried: bool) -> None:
        pass
