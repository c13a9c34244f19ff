"""How far the running tasks are, told every 10 ms to those who asked.

One thread serves all tasks of all runs, and only while a run is active and somebody watches.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import time
from typing import NamedTuple, Protocol

from perfect.context import Detached, current
from perfect.errors import ConfigurationError
from perfect.records import FlowRun, TaskRun

INTERVAL = 0.01  # s, the resolution the seeds of this design name

log = logging.getLogger("perfect")


class Progress(NamedTuple):
    """How far one running task is. `percent` is 0–99, `elapsed` s since the run began."""

    run: str
    flow: str
    task_index: int
    task: str
    percent: int
    elapsed: float


class Watched(Protocol):
    """What is watched: an executor with its run and the tasks running in it, by index."""

    run: FlowRun
    running: dict[int, TaskRun]


Watcher = Callable[[Progress], object]


class _Watch:
    def __init__(self, tell: Watcher) -> None:
        self.tell = tell


_changed = threading.Condition()
_executors: list[Watched] = []
_watchers: list[_Watch] = []
_thread: threading.Thread | None = None


def watch_progress(watcher: Watcher) -> Callable[[], None]:
    """Call `watcher` with the `Progress` of every running task, every 10 ms, from the ticker thread.

    Returns:
        A function that ends it.

    Raises:
        ConfigurationError: `watcher` can't be called.
    """
    if not callable(watcher):
        raise ConfigurationError("watcher", watcher, "is not a function")
    # An object of its own: the same function may watch twice, and each watch ends by itself.
    watch = _Watch(watcher)
    with _changed:
        _watchers.append(watch)
        _start_if_needed()

    def unwatch() -> None:
        with _changed:
            if watch in _watchers:
                _watchers.remove(watch)
            _changed.notify_all()

    return unwatch


def add(executor: Watched) -> None:
    """A run has begun."""
    with _changed:
        _executors.append(executor)
        _start_if_needed()


def remove(executor: Watched) -> None:
    """A run is ending."""
    with _changed:
        _executors.remove(executor)
        _changed.notify_all()


def percent(entry: TaskRun, now: float) -> int:
    """min(99, elapsed / estimate · 100), or what the task says itself (PROTOCOL part 3)."""
    if entry.progress is not None:
        return min(99, int(entry.progress * 100))
    return percent_of((now - entry.started) * 1000, entry.task.estimated_time)


def percent_of(elapsed: float, estimate: float) -> int:
    """Percent of an estimate that has elapsed, 0–99; both in ms."""
    return max(0, min(99, int(elapsed / estimate * 100))) if estimate > 0 else 99


def after_fork() -> None:
    """In a forked child: the parent's runs, watchers and thread are not here."""
    global _changed, _thread
    _changed = threading.Condition()
    _executors.clear()
    _watchers.clear()
    _thread = None


def _start_if_needed() -> None:
    global _thread
    if (_thread is None or not _thread.is_alive()) and _executors and _watchers:
        _thread = threading.Thread(target=_run, name="perfect-ticker", daemon=True)
        try:
            _thread.start()
        except RuntimeError:  # no thread to be had: nobody is told, the flow runs all the same
            _thread = None


def _run() -> None:
    global _thread
    current.set(Detached())
    while True:
        with _changed:
            if not (_executors and _watchers):
                _thread = None
                return
            executors, watchers = list(_executors), list(_watchers)
        now = time()
        for executor in executors:
            for entry in tuple(executor.running.values()):
                run = executor.run
                told = Progress(
                    run.id,
                    run.name,
                    entry.index,
                    entry.task.name,
                    percent(entry, now),
                    max(0.0, now - run.started),
                )
                for watcher in watchers:
                    _tell(watcher, told)
        with _changed:
            if _executors and _watchers:
                _changed.wait(INTERVAL)


def _tell(watch: _Watch, told: Progress) -> None:
    try:
        watch.tell(told)
    except BaseException:  # a sys.exit() in one watcher must not end the thread that serves all
        log.exception("perfect: a progress watcher failed and is dropped")
        with _changed:
            if watch in _watchers:
                _watchers.remove(watch)
