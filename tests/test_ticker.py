"""How far running tasks are: one thread, and only while somebody watches a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from perfect import testing, ticker
from perfect.errors import ConfigurationError
from perfect.sdk import Progress, flow, progress, task, watch_progress
from perfect.ticker import percent


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    thread = ticker._thread
    if thread is not None:
        thread.join(10)
    assert ticker._thread is None and not ticker._watchers and not ticker._executors


class Watcher:
    """Notes what it is told and lets a test wait for it."""

    def __init__(self) -> None:
        self.told: list[Progress] = []
        self._changed = threading.Condition()

    def __call__(self, told: Progress) -> None:
        with self._changed:
            self.told.append(told)
            self._changed.notify_all()

    def wait_for(self, test: Callable[[Progress], bool]) -> Progress:
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(test, self.told)), 10), self.told[-3:]
            return next(filter(test, self.told))


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    unwatch = watch_progress(watcher)
    yield watcher
    unwatch()


def running(body: Callable[[], Any], **options: Any) -> Any:
    step = task(name="step", **options)(body)
    with testing.mock() as recorder:
        flow(name="watched")(lambda: step())()
        return recorder.run


def test_a_running_task_is_told(watcher: Watcher) -> None:
    def body() -> None:
        told = watcher.wait_for(lambda told: told.percent >= 5)
        assert (told.flow, told.task, told.task_index) == ("watched", "step", 0)
        assert told.elapsed >= 0
        watcher.wait_for(lambda later: later.percent > told.percent)

    run = running(body, estimated_time=1000)
    assert {told.run for told in watcher.told} == {run.id}
    percents = [told.percent for told in watcher.told]
    assert percents == sorted(percents) and max(percents) <= 99


def test_what_the_task_says_itself_counts(watcher: Watcher) -> None:
    def body() -> None:
        progress(0.4)
        watcher.wait_for(lambda told: told.percent == 40)
        progress(1)
        watcher.wait_for(lambda told: told.percent == 99)  # 100 only when it is done

    running(body, estimated_time=60_000)


def test_every_running_task_of_every_run_is_told(watcher: Watcher) -> None:
    def body() -> None:
        for index in range(3):
            watcher.wait_for(lambda told: told.task_index == index)

    def three() -> None:
        threads = [threading.Thread(target=inner) for _ in range(2)]
        for thread in threads:
            thread.start()
        body()
        for thread in threads:
            thread.join()

    inner = task(name="inner")(body)
    running(three)
    assert {told.task for told in watcher.told} == {"step", "inner"}


def test_there_is_no_thread_without_a_watcher_or_a_run() -> None:
    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate()]

    found: list[list[str]] = []
    running(lambda: found.append(names()))
    assert "perfect-ticker" not in found[0]
    unwatch = watch_progress(lambda told: None)
    assert "perfect-ticker" not in names()
    running(lambda: found.append(names()))
    assert "perfect-ticker" in found[1]
    unwatch()


def test_the_thread_serves_the_next_run_too(watcher: Watcher) -> None:
    for _ in range(3):
        watcher.told.clear()
        running(lambda: watcher.wait_for(lambda told: True))
        if ticker._thread is not None:
            ticker._thread.join(10)
        assert ticker._thread is None


@pytest.mark.parametrize(
    "error", [ValueError("of the watcher"), SystemExit(1), KeyboardInterrupt()]
)
def test_a_watcher_that_raises_is_dropped_and_the_others_go_on(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def failing(told: Progress) -> None:
        calls.append(1)
        raise error

    watcher = Watcher()
    unwatch_failing, unwatch = watch_progress(failing), watch_progress(watcher)

    def body() -> None:
        for _ in range(3):
            watcher.told.clear()
            watcher.wait_for(lambda told: True)

    running(body)
    unwatch()
    unwatch_failing()
    assert len(calls) == 1
    assert "a progress watcher failed" in caplog.text


def test_a_watcher_may_end_its_own_watch() -> None:
    watcher, ended = Watcher(), threading.Event()

    def once(told: Progress) -> None:
        watcher(told)
        unwatch()
        ended.set()

    unwatch = watch_progress(once)
    running(lambda: ended.wait(10))
    assert len(watcher.told) == 1


def test_each_watch_of_one_function_ends_by_itself() -> None:
    watcher = Watcher()
    first, second = watch_progress(watcher), watch_progress(watcher)
    first()
    first()  # twice is once
    running(lambda: watcher.wait_for(lambda told: True))
    second()


def test_what_a_watcher_prints_belongs_to_no_run() -> None:
    printed = threading.Event()

    def printing(told: Progress) -> None:
        print("from the watcher")
        printed.set()

    unwatch = watch_progress(printing)
    run = running(lambda: printed.wait(10))
    unwatch()
    assert run.logs == []


def test_a_watcher_that_can_not_be_called_is_named() -> None:
    with pytest.raises(ConfigurationError, match="watcher=3"):
        watch_progress(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("estimate", "elapsed", "said", "expected"),
    [
        (1000, 0.0, None, 0),
        (1000, 0.5, None, 50),
        (1000, 0.999, None, 99),
        (1000, 60.0, None, 99),
        (1000, -5.0, None, 0),  # the clock was set back
        (0, 0.0, None, 99),
        (1000, 0.5, 0.0, 0),
        (1000, 0.5, 0.25, 25),
        (1000, 0.5, 1.0, 99),
    ],
)
def test_percent(estimate: int, elapsed: float, said: float | None, expected: int) -> None:
    entry: Any = SimpleNamespace(
        progress=said, started=100.0, task=SimpleNamespace(estimated_time=estimate)
    )
    assert percent(entry, 100.0 + elapsed) == expected
