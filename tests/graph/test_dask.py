"""What only the Dask executors do; what all executors do alike is in test_executors.py."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from perfect import session as sessions
from perfect.core import Executor, Flow, FlowRunner, State, task
from perfect.errors import ConfigurationError, NotSendable, WorkerLost
from perfect.graph.executors import dask as executors
from perfect.graph.executors.dask import DaskExecutor, LocalDaskExecutor
from perfect.graph.runner import GraphRun
from perfect.outcomes import Cancelled
from perfect.records import TaskRun
from perfect.testing import Recorder, mock
from tests.support.dask import DaskCluster, dask_cluster
from tests.support.processes import Script, children_of, poll_until

pytest.importorskip("distributed", reason="the extra dask is not installed")

log = logging.getLogger("steps")
number_of_the_caller = contextvars.ContextVar("number_of_the_caller", default=0)


@task
def inc(x: int) -> int:
    return x + 1


@task
def size(value: bytes) -> int:
    return len(value)


@task
def process_of(x: int) -> int:
    return os.getpid()


@task(retries=2, delay=0)
def waits(folder: str, name: str, after: int = 0) -> int:
    """Wait for a file "go"; which processes have begun it is seen from the folder."""
    print(f"{name} begins")
    Path(folder, f"{name}.{os.getpid()}").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.005)
    print(f"{name} ends")
    return os.getpid()


@task
def dies() -> None:
    print("about to die")
    time.sleep(0.3)  # so that it is heard
    os.kill(os.getpid(), signal.SIGKILL)


@task
def fails() -> None:
    raise ValueError("failed")


@task
def touches(folder: str, name: str) -> None:
    Path(folder, name).touch()
    time.sleep(0.5)


@task
def says_odd_things() -> None:
    log.warning("odd: \udcff \x00 é")
    for number in range(500):
        print("line", number)


@task
def lock() -> Any:
    return threading.Lock()


@task
def of_the_caller() -> int:
    return number_of_the_caller.get()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    """A scheduler without workers."""
    with dask_cluster(tmp_path / "dask") as made:
        yield made


class Run:
    """A tracked run in a thread of its own."""

    def __init__(self, flow: Flow, executor: Executor, recorder: Recorder) -> None:
        self._pool = ThreadPoolExecutor(1)
        self.recorder = recorder
        self.future: Future[State] = self._pool.submit(flow.run, None, executor)
        self._pool.shutdown(wait=False)

    def wait_for_line(self, part: str) -> str:
        def found() -> str | None:
            runs = self.recorder.runs
            lines = runs[-1].logs if runs else []
            return next((line for line in lines if part in line), None)

        line = poll_until(lambda: self.future.done() or found(), what=part)
        if line is True:
            line = found()
            assert line is not None, self.future.result().result
        assert isinstance(line, str)
        return line

    def entry(self, name: str) -> TaskRun:
        records = sessions.get_session().recorded or []
        return next(one for one in records if isinstance(one, TaskRun) and one.task.name == name)


@pytest.fixture
def tracked() -> Iterator[Callable[[Flow, Executor], Run]]:
    with mock() as recorder:
        yield lambda flow, executor: Run(flow, executor, recorder)


def pids(folder: Path, name: str) -> list[int]:
    return [int(path.suffix[1:]) for path in folder.glob(f"{name}.*")]


# --- killed workers -----------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False], ids=["own", "address"])
def test_a_killed_worker_is_a_further_attempt(
    tmp_path: Path, tracked: Callable[..., Run], cluster: DaskCluster, own: bool
) -> None:
    if own:
        executor = DaskExecutor(n_workers=2)
    else:
        executor = DaskExecutor(cluster.address)
        for _ in range(2):
            cluster.add_worker()
    with Flow("killed") as flow:
        before = process_of(1)
        node = waits(str(tmp_path), "it", before)
    run = tracked(flow, executor)
    run.wait_for_line("it begins")
    (first,) = pids(tmp_path, "it")
    os.kill(first, signal.SIGKILL)
    warning = run.wait_for_line("was lost")
    poll_until(lambda: len(pids(tmp_path, "it")) == 2)
    Path(tmp_path, "go").touch()
    state = run.future.result(20)
    assert state.is_successful() and state.result[node].result in pids(tmp_path, "it")
    assert state.result[node].result != first
    told = run.recorder.run.task("waits")
    assert (told.state, told.attempt) == ("COMPLETED", 2)
    # The lines of the lost attempt stay.
    assert told.logs == ["it begins", warning, "it begins", "it ends"]
    assert "worker tcp://127.0.0.1:" in warning and "computed again" in warning
    (earlier,) = run.entry("waits").attempts or []
    assert (
        earlier["worker"].startswith("worker tcp://") and earlier["error"]["type"] == "WorkerLost"
    )
    # What had finished was not computed again.
    assert run.recorder.run.task("process_of").attempt == 1


def test_a_task_that_kills_its_workers_fails(tracked: Callable[..., Run]) -> None:
    with Flow("deadly") as flow:
        node = dies()
    run = tracked(flow, DaskExecutor(n_workers=3))
    state = run.future.result(60)
    error = state.result[node].result
    assert isinstance(error, WorkerLost) and "tcp://127.0.0.1" in error.worker
    told = run.recorder.run.task("dies")
    assert (told.state, told.attempt) == ("FAILED", 3)
    assert told.logs.count("about to die") == 3


def test_a_lost_scheduler_fails_the_run(
    tmp_path: Path, tracked: Callable[..., Run], cluster: DaskCluster
) -> None:
    cluster.add_worker()
    with Flow("alone") as flow:
        node = waits.copy(retries=0)(str(tmp_path), "it")
        other = waits(str(tmp_path), "other")  # with retries, which are of no use
    run = tracked(flow, DaskExecutor(cluster.address))
    run.wait_for_line("it begins")
    cluster.scheduler.kill()
    began = time.monotonic()
    state = run.future.result(20)
    assert time.monotonic() - began < 8
    for one in (node, other):
        error = state.result[one].result
        assert isinstance(error, WorkerLost) and cluster.address in str(error)


def test_nobody_answers() -> None:
    with pytest.raises(ConfigurationError, match="no scheduler answers"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(executors, "ANSWER_WITHIN", 0.5)
            DaskExecutor("tcp://127.0.0.1:9").start()
    with pytest.raises(ConfigurationError, match="address="):
        DaskExecutor("no-protocol://nowhere").start()


# --- how much is handed over --------------------------------------------------------------------


def test_without_workers_the_run_says_so_and_waits(
    monkeypatch: pytest.MonkeyPatch, tracked: Callable[..., Run], cluster: DaskCluster
) -> None:
    monkeypatch.setattr(executors, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(executors, "LONELY_AFTER", 0.2)
    with Flow("lonely") as flow:
        node = inc(1)
    run = tracked(flow, DaskExecutor(cluster.address))
    line = run.wait_for_line("no worker at")
    assert cluster.address in line
    assert run.recorder.run.tasks == []  # nothing has begun, and nothing is told as running
    cluster.add_worker()
    assert run.future.result(20).result[node].result == 2


def test_slots_follow_the_workers(monkeypatch: pytest.MonkeyPatch, cluster: DaskCluster) -> None:
    monkeypatch.setattr(executors, "LOOK_EVERY", 0.05)
    pool = DaskExecutor(cluster.address).start()
    try:
        assert 1 <= pool.slots <= 8
        few = pool.slots
        worker = cluster.add_worker(threads=4)
        assert list(pool.wait(20)) == []  # wakes up whoever waits for an attempt to end
        assert few + 4 <= pool.slots <= 16
        worker.kill()
        poll_until(lambda: pool.slots == few)
    finally:
        pool.close(hurried=False)


def test_what_has_not_begun_is_not_begun_after_a_failure(tmp_path: Path) -> None:
    with Flow("fast") as flow:
        fails()
        rest = [touches(str(tmp_path), f"{number}") for number in range(6)]
    states = GraphRun(flow.graph, executor=DaskExecutor(n_workers=1), fail_fast=True).run()
    assert states[0].is_failed()
    begun = [path.name for path in tmp_path.iterdir()]
    assert len(begun) <= 1  # the one that the worker has begun before home knew
    assert [type(states[node.index]) for node in rest].count(Cancelled) >= 5


# --- what travels -------------------------------------------------------------------------------

BY_VALUE = """
    from perfect.core import *
    from perfect.testing import mock

    class Boom(Exception):
        def __init__(self, number):
            super().__init__(f"boom {number}")
            self.number = number

    class Box:
        def __init__(self, content):
            self.content = content

    tries = task(lambda: 7, name="seven")

    @task
    def fact(n):
        return 1 if n < 2 else n * fact(n - 1)

    @task
    def boxed(n):
        print("boxed", fact(n))
        return Box(fact(n))

    @task
    def opened(box):
        assert isinstance(box, Box)
        return box.content

    @task(retries=1, delay=0, retry_on=Boom)
    def booms(n):
        raise Boom(n)

    class Plus(Task):
        def __init__(self, n):
            self.n = n
            super().__init__()

        def run(self, x):
            return x + self.n

    async def doubled(n):
        return 2 * n

    def closure(by):
        @task(timeout=30)
        def times(n):
            return by * n
        return times

    if __name__ == "__main__":
        with Flow("notebook") as flow:
            values = [tries(), opened(boxed(4)), Plus(3)(4), task(doubled)(5), closure(3)(5)]
            bad = booms(9)
        with mock() as recorder:
            state = flow.run(executor=DaskExecutor(ADDRESS, **OPTIONS))
        assert [state.result[node].result for node in values] == [7, 24, 7, 10, 15], state.result
        error = state.result[bad].result
        assert type(error) is Boom and error.number == 9, error
        assert recorder.run.task("booms").attempt == 2
        assert recorder.run.task("boxed").logs == ["boxed 24"]
        print("all well")
"""


@pytest.mark.parametrize("own", [True, False], ids=["own", "address"])
def test_what_a_script_defines_goes_by_value(
    tmp_path: Path, cluster: DaskCluster, own: bool
) -> None:
    text = BY_VALUE.replace("ADDRESS", repr(None if own else cluster.address))
    text = text.replace("OPTIONS", "{'n_workers': 2}" if own else "{}")
    if not own:
        cluster.add_worker()
    done = Script(tmp_path / "notebook.py", text).run()
    retried = "task 'booms': attempt 1 of 2 failed, the next follows in 0 s: Boom: boom 9\n"
    assert (done.returncode, done.stderr) == (0, retried)
    assert done.stdout.splitlines()[-1] == "all well"


def test_what_can_not_travel_is_named() -> None:
    with Flow("unsendable") as flow:
        given = inc(threading.Lock())  # type: ignore[call-overload, unused-ignore]
        got = lock()
    state = FlowRunner(flow).run(executor=DaskExecutor(n_workers=1))
    errors = [state.result[node].result for node in (given, got)]
    assert [type(error) for error in errors] == [NotSendable] * 2
    assert "argument 1 (a lock)" in str(errors[0]) and "result" in str(errors[1])


def test_large_arguments_go_without_a_warning(cluster: DaskCluster) -> None:
    cluster.add_worker()
    with Flow("large") as flow:
        node = size(bytes(60_000_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = FlowRunner(flow).run(executor=DaskExecutor(cluster.address))
    assert state.result[node].result == 60_000_000


def test_lines_of_every_kind(tracked: Callable[..., Run]) -> None:
    with Flow("lines") as flow:
        says_odd_things()
    run = tracked(flow, DaskExecutor(n_workers=1))
    assert run.future.result(20).is_successful()
    lines = run.recorder.run.task("says_odd_things").logs
    assert lines == ["steps: odd: ? \x00 é", *(f"line {number}" for number in range(500))]


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "perfect":
            raise ModuleNotFoundError("No module named 'perfect'", name="perfect")

sys.meta_path.insert(0, Blocked())
"""


def test_only_workers_need_perfect(tmp_path: Path, cluster: DaskCluster) -> None:
    blocked = tmp_path / "blocked.py"
    blocked.write_text(BLOCKED)
    cluster.scheduler.kill()
    cluster.start("--preload", str(blocked))
    with Flow("elsewhere") as flow:
        node = inc(1)
    worker = cluster.add_worker("--preload", str(blocked))
    error = FlowRunner(flow).run(executor=DaskExecutor(cluster.address)).result[node].result
    assert isinstance(error, NotSendable) and "perfect is not installed" in str(error)
    assert worker.poll() is None
    worker.kill()
    cluster.add_worker()
    assert FlowRunner(flow).run(executor=DaskExecutor(cluster.address)).result[node].result == 2


# --- at home --------------------------------------------------------------------------------------


def test_a_stub_is_called_at_home() -> None:
    home = []
    with Flow("stubbed") as flow:
        node = inc(inc(1))
    with mock() as recorder:
        recorder.stub("inc", lambda x: home.append(os.getpid()) or 40)
        state = flow.run(executor=DaskExecutor(n_workers=1))
    assert state.result[node].result == 40 and home == [os.getpid()] * 2


def test_in_threads_tasks_have_the_context_of_their_caller() -> None:
    with Flow("context") as flow:
        node = of_the_caller()
    token = number_of_the_caller.set(5)
    try:
        assert FlowRunner(flow).run(executor=LocalDaskExecutor()).result[node].result == 5
    finally:
        number_of_the_caller.reset(token)


def test_in_a_running_event_loop() -> None:
    """As in a notebook."""
    with Flow("loop") as flow:
        node = inc(1)

    async def cell() -> Any:
        return FlowRunner(flow).run(executor=LocalDaskExecutor("processes", 1)).result[node].result

    assert asyncio.run(cell()) == 2


def test_logging_stays_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    from distributed.utils import DequeHandler

    def state() -> Any:
        found = {}
        for name in (None, *logging.root.manager.loggerDict):
            logger = logging.getLogger(name)
            # Dask's servers remember what they logged, as long as they live.
            handlers = [one for one in logger.handlers if not isinstance(one, DequeHandler)]
            facts = (logger.level, logger.propagate, [(one, one.level) for one in handlers])
            if facts != (logging.NOTSET, True, []):
                found[name] = facts
        return found

    def run() -> None:
        with Flow("quiet") as flow:
            inc(1)
        for executor in (DaskExecutor(n_workers=1), LocalDaskExecutor()):
            assert FlowRunner(flow).run(executor=executor).is_successful()

    before = state()
    run()
    assert state() == before
    assert capfd.readouterr() == ("", "")


def test_nothing_listens_beyond_loopback() -> None:
    import psutil  # type: ignore[import-untyped]  # comes with distributed

    for executor in (DaskExecutor(n_workers=1), LocalDaskExecutor()):
        pool = executor.start()
        try:
            here = psutil.Process()
            listening = [
                connection.laddr.ip
                for process in (here, *here.children(recursive=True))
                for connection in process.net_connections()
                if connection.status == psutil.CONN_LISTEN
            ]
            assert set(listening) == {"127.0.0.1"}
        finally:
            pool.close(hurried=False)


def test_nothing_is_left_on_the_scheduler(cluster: DaskCluster) -> None:
    import distributed

    cluster.add_worker()
    with Flow("guest") as flow:
        for number in range(20):
            inc(number)
    assert FlowRunner(flow).run(executor=DaskExecutor(cluster.address)).is_successful()
    with distributed.Client(cluster.address, set_as_default=False) as client:

        def seen(dask_scheduler: Any) -> Any:
            return len(dask_scheduler.tasks), [
                name for name in dask_scheduler.get_events() if "perfect" in str(name)
            ]

        assert poll_until(lambda: client.run_on_scheduler(seen) == (0, []))


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"address": ""}, "address"),
        ({"address": 8786}, "address"),
        ({"n_workers": 0}, "n_workers"),
        ({"threads_per_worker": 1.5}, "threads_per_worker"),
        ({"address": "tcp://127.0.0.1:8786", "n_workers": 2}, "n_workers"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], argument: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DaskExecutor(**arguments)
    assert caught.value.argument == argument


def test_arguments_of_the_local_one_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="scheduler="):
        LocalDaskExecutor("greenlets")
    with pytest.raises(ConfigurationError, match="num_workers="):
        LocalDaskExecutor(num_workers=True)


# --- scripts ----------------------------------------------------------------------------------


def test_without_dask_the_module_imports_and_the_extra_is_named() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-c"),
            "import sys\n"
            "sys.modules['distributed'] = sys.modules['dask'] = None\n"
            "from perfect.core import DaskExecutor\n"
            "DaskExecutor().start()",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    last = done.stderr.splitlines()[-1]
    assert "MissingExtra" in last and "pip install 'perfect-client[dask]'" in last


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = Script(
        tmp_path / "unguarded.py",
        """
        from perfect.core import *

        with Flow("unguarded") as flow:
            task(len)("abc")
        FlowRunner(flow).run(executor=DaskExecutor(n_workers=1))
        """,
    )
    done = script.run()
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert 'if __name__ == "__main__":' in last and "ConfigurationError" in last


def test_ctrl_c_while_the_cluster_comes_up(tmp_path: Path) -> None:
    script = Script(
        tmp_path / "impatient.py",
        """
        from perfect.core import *

        if __name__ == "__main__":
            with Flow("impatient") as flow:
                task(len)("abc")
            try:
                FlowRunner(flow).run(executor=DaskExecutor(n_workers=2))
            except KeyboardInterrupt:
                print("interrupted", [one.name for one in threading.enumerate()])
        """,
    )
    with script.started() as process:
        poll_until(lambda: children_of(process.pid), every=0.002)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert out.startswith("interrupted ['MainThread'")
