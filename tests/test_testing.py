"""`perfect.testing`: what users test their flows with."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from perfect.errors import NotFound, TaskStubbed
from perfect.sdk import TaskResult, configure, flow, propagate, task
from perfect.session import get_session
from perfect.store import StateManager
from perfect.testing import Recorder, mock, recorder


@task
def fetch(source: str) -> int:
    print("fetching", source)
    return 3


@task(crucial_pass=False)
def notify() -> str:
    return "sent"


@flow
def etl(source: str = "sales") -> tuple[int, str | None]:
    rows = fetch(source)
    return rows, notify()


def test_everything_that_was_reported_can_be_read(perfect_mock: Recorder) -> None:
    assert etl("stock") == (3, "sent")
    run = perfect_mock.run
    assert (run.flow, run.state, run.parameters) == ("etl", "COMPLETED", {"source": "stock"})
    assert [(entry.name, entry.state) for entry in run.tasks] == [
        ("fetch", "COMPLETED"),
        ("notify", "COMPLETED"),
    ]
    assert run.logs == run.task("fetch").logs == ["fetching stock"]
    assert perfect_mock.runs == [run]
    with pytest.raises(NotFound, match="'absent'"):
        run.task("absent")


def test_the_newest_run(perfect_mock: Recorder) -> None:
    with pytest.raises(NotFound, match="no flow was called"):
        perfect_mock.run
    etl("one")
    etl("two")
    assert perfect_mock.run.parameters == {"source": "two"}
    assert [run.parameters["source"] for run in perfect_mock.runs] == ["one", "two"]


@pytest.mark.parametrize("by", ["fetch", fetch])
def test_a_task_is_stubbed_by_value_or_function(perfect_mock: Recorder, by: Any) -> None:
    perfect_mock.stub(by, 7)
    assert etl() == (7, "sent")
    perfect_mock.stub(by, lambda source: len(source))
    assert etl("four") == (4, "sent")
    perfect_mock.stub(by)
    assert etl() == (None, "sent")
    assert perfect_mock.run.task("fetch").logs == []


def test_a_stub_may_not_pass(perfect_mock: Recorder) -> None:
    perfect_mock.stub(notify, TaskResult(False, "no mail"))
    assert etl() == (3, TaskResult(False, "no mail"))
    assert perfect_mock.run.task("notify").state == "FAILED"


@pytest.mark.parametrize("by", ["fetch", fetch])
@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (None, TaskStubbed, "made to fail"),
        ("out of rows", TaskStubbed, "out of rows"),
        (KeyError("mine"), KeyError, "mine"),
        (ConnectionError, ConnectionError, None),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_task_is_made_to_fail(
    perfect_mock: Recorder, by: Any, error: Any, kind: type[BaseException], says: str | None
) -> None:
    perfect_mock.fail(by, *() if error is None else (error,))
    for _ in range(2):
        with pytest.raises(kind, match=says):
            etl()
    assert perfect_mock.run.task("fetch").state == (
        "CANCELLED" if kind is KeyboardInterrupt else "FAILED"
    )


def test_a_task_that_is_not_crucial_is_made_to_fail(perfect_mock: Recorder) -> None:
    perfect_mock.fail("notify")
    assert etl() == (3, None)
    assert perfect_mock.run.state == "COMPLETED"


def test_stubs_of_generators_and_async_tasks(perfect_mock: Recorder) -> None:
    import asyncio

    @task
    def rows() -> Iterator[int]:
        yield 1

    @task
    async def fetch_later() -> int:
        return 1

    @flow
    async def run() -> tuple[list[int], int]:
        return list(rows()), await fetch_later()

    async def five() -> int:
        return 5

    perfect_mock.stub(rows, [1, 2, 3])
    perfect_mock.stub(fetch_later, 4)
    assert asyncio.run(run()) == ([1, 2, 3], 4)
    perfect_mock.stub(fetch_later, five)
    assert asyncio.run(run()) == ([1, 2, 3], 5)
    perfect_mock.fail(rows, ValueError("stubbed"))
    with pytest.raises(ValueError, match="stubbed"):
        asyncio.run(run())
    assert perfect_mock.run.task("rows").state == "FAILED"


def test_attempts_reasons_and_elements_can_be_read(perfect_mock: Recorder) -> None:
    @task(retries=2, delay=0)
    def guarded(value: int = 1) -> int:
        return value

    @task(when=lambda value: value > 1)
    def wanted(value: int) -> int:
        return value

    @flow
    def run() -> Any:
        return guarded(), wanted.map([1, 2]), guarded.submit(5).result()

    left = [ValueError("stubbed")]

    def once(value: int = 1) -> int:
        if left:
            raise left.pop()
        return value + 1

    perfect_mock.stub(guarded, once)
    assert run() == (2, [None, 2], 6)
    first, *elements, last = perfect_mock.run.tasks
    assert (first.attempt, [one["error"]["message"] for one in first.attempts]) == (2, ["stubbed"])
    assert (last.attempt, last.attempts, last.reason, last.upstream) == (1, [], None, None)
    assert first.map_index is None
    assert {(one.map_index, one.reason) for one in elements} == {
        (0, "not wanted: `when` says no"),
        (1, None),
    }
    perfect_mock.fail(guarded)
    with pytest.raises(TaskStubbed):
        run()
    assert perfect_mock.run.task("guarded").attempt == 3  # each of them is made to fail


def test_a_stub_is_not_kept_for_reuse_nor_replaced_by_what_was(perfect_mock: Recorder) -> None:
    @task(cache=StateManager())
    def costly(value: int) -> int:
        return value + 1

    @flow
    def run() -> int:
        return costly(1)

    perfect_mock.stub(costly, 7)
    assert run() == 7
    perfect_mock.clear()
    assert run() == run() == 2  # in a real run nobody wants the stub's value
    perfect_mock.stub(costly, 8)
    assert run() == 8
    assert costly(1) == 2


def test_clear_forgets_runs_and_stubs(perfect_mock: Recorder) -> None:
    perfect_mock.stub(fetch, 7)
    etl()
    perfect_mock.clear()
    assert perfect_mock.runs == []
    assert etl() == (3, "sent")


def test_clear_in_the_middle_of_a_run(perfect_mock: Recorder) -> None:
    @flow
    def clearing() -> None:
        fetch("a")
        perfect_mock.clear()
        fetch("b")
        print("end")

    clearing()
    assert [run.state for run in perfect_mock.runs] == ["COMPLETED"]
    assert "fetching b" in perfect_mock.run.logs


def test_lines_of_a_thread_after_the_end(perfect_mock: Recorder) -> None:
    go = threading.Event()

    @flow
    def leaving() -> threading.Thread:
        def late() -> None:
            go.wait(10)
            print("late")

        thread = threading.Thread(target=propagate(late))
        thread.start()
        return thread

    thread = leaving()
    perfect_mock.clear()
    go.set()
    thread.join()
    perfect_mock.runs  # nothing is raised


def test_mock_blocks_can_be_nested_and_put_everything_back() -> None:
    configure(mock=True)
    outside = get_session()
    with mock() as outer:
        etl()
        with mock() as inner:
            etl()
            etl()
        assert (len(outer.runs), len(inner.runs)) == (1, 2)
        inner.stub("fetch", 9)
        assert etl() == (3, "sent")
    assert get_session() is outside
    assert recorder().runs == []


def test_a_mock_block_that_raises_puts_everything_back() -> None:
    configure(mock=True)
    outside = get_session()
    with pytest.raises(KeyError):
        with mock():
            raise KeyError
    assert get_session() is outside


def test_the_recorder_of_a_configured_mock_session() -> None:
    configure(mock=True)
    etl()
    assert recorder().run.state == "COMPLETED"


# The fixture comes with the package


def test_the_entry_point_is_registered() -> None:
    (entry,) = [
        entry for entry in metadata.entry_points(group="pytest11") if entry.name == "perfect"
    ]
    assert entry.value == "perfect.testing"


def test_a_users_test_has_the_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(textwrap.dedent("""
            import pytest
            from perfect import flow, task

            @task
            def step():
                return 1

            @flow
            def mine():
                return step()

            @pytest.mark.parametrize("number", range(4))
            def test_mine(perfect_mock, number):
                perfect_mock.stub("step", number)
                assert mine() == number
                assert len(perfect_mock.runs) == 1
            """))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "4 passed" in done.stdout, done.stdout + done.stderr


# No socket, no thread, no disk


AUDITED = """
    import sys
    import perfect, perfect.sdk, perfect.testing, perfect.api, perfect.delivery, perfect.listener
    import threading, traceback, linecache

    seen = []
    def audit(event, args):
        if event.startswith(("socket.", "subprocess.", "os.mkdir", "os.remove", "os.rename", "sqlite3.")):
            seen.append((event, args))
        if event == "_thread.start_new_thread":
            seen.append((event, args))
        if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
            seen.append((event, args))
        if event == "open" and not isinstance(args[1], str) and args[2] & 3:
            seen.append((event, args))
    sys.addaudithook(audit)

    @perfect.task
    def step(fail):
        print("step")
        perfect.progress(0.5)
        if fail:
            raise ValueError("x")

    @perfect.flow(schedule=perfect.CronSchedule("* * * * *"))
    def run(fail=False):
        step(fail)

    perfect.configure(mock=True)
    perfect.connect()
    run()
    try:
        run(True)
    except ValueError:
        pass
    with perfect.testing.mock():
        run()
    assert threading.enumerate() == [threading.main_thread()]
    perfect.session.reset()
    assert not seen, seen
    print("nothing")
"""


def test_mock_mode_opens_no_socket_starts_no_thread_and_writes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(AUDITED)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PERFECT_HOME": str(home), "PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "nothing"
    assert not home.exists() and os.listdir(tmp_path) == []
