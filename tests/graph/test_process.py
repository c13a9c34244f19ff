"""Worker processes: killed, crashed, left behind, sent what can't be sent."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from perfect import session as sessions
from perfect.core import Flow, FlowRunner, ProcessExecutor, State, Task, task
from perfect.errors import ConfigurationError, NotSendable, TaskTimeout, WorkerLost
from perfect.records import TaskRun
from perfect.testing import mock
from tests.graph import graph_steps as steps
from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line, children_of, poll_until, python


def run(flow: Flow, workers: int = 2, **options: Any) -> State:
    return FlowRunner(flow).run(executor=ProcessExecutor(workers, **options))


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has, if no other thread of it is left."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state == "Z" and len(os.listdir(f"/proc/{pid}/task")) == 1
    except FileNotFoundError:
        return True


def left() -> tuple[list[int], list[str]]:
    """The processes that this one has started, zombies too, and its open descriptors."""
    return children_of(os.getpid()), sorted(os.listdir("/proc/self/fd"))


# --- what is asked for ------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "2"])
def test_the_number_of_workers_is_checked(workers: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_workers"):
        ProcessExecutor(workers)


def test_the_start_method_is_checked() -> None:
    with pytest.raises(ConfigurationError, match="start_method='thread': is none of fork, spawn"):
        ProcessExecutor(start_method="thread")
    assert ProcessExecutor().max_workers == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_start_method(method: str) -> None:
    with Flow("methods") as flow:
        node = steps.inc(steps.one())
    assert run(flow, start_method=method).result[node].result == 2


def test_no_more_workers_than_are_needed() -> None:
    with Flow("chain") as flow:
        first = steps.pid()
        second = steps.pid(first)
        third = steps.pid(second)
    state = run(flow, 4)
    pids = {state.result[node].result for node in (first, second, third)}
    assert len(pids) == 1 and os.getpid() not in pids


# --- workers that die ---------------------------------------------------------------------------


def test_a_killed_worker_is_reported_and_its_task_computed_elsewhere(tmp_path: Path) -> None:
    """Of two workers the first is killed; the other one goes on with what it is at."""
    gate = tmp_path / "gate"
    told = [tmp_path / "first", tmp_path / "second"]
    with Flow("killed") as flow:
        first, second = [
            steps.waits_for.copy(name=path.name)(str(gate), str(path)) for path in told
        ]
    with mock() as recorder, ThreadPoolExecutor(1) as pool:
        future = pool.submit(flow.run, None, ProcessExecutor(2))
        try:
            for path in told:
                poll_until(path.exists)
            killed, spared = (int(path.read_text()) for path in told)
            told[0].unlink()
            os.kill(killed, signal.SIGKILL)
            poll_until(told[0].exists)  # it is computed again
            poll_until(lambda: {entry.state for entry in recorder.run.tasks} == {"RUNNING"})
        finally:
            gate.touch()
        state = future.result()
        entries = {
            one.task.name: one
            for one in sessions.get_session().recorded or ()
            if isinstance(one, TaskRun)
        }
        logs = recorder.run.task("first").logs
    assert state.result[second].result == spared
    assert state.result[first].result == int(told[0].read_text()) != killed
    (earlier,) = entries["first"].attempts or []
    name = f"process {killed} (killed by SIGKILL)"
    assert (earlier["attempt"], earlier["worker"]) == (1, name)
    assert earlier["error"]["type"] == "WorkerLost" and name in earlier["reason"]
    assert entries["first"].attempt == 2 and entries["second"].attempts is None
    assert len(logs) == 1 and "was lost; the task is computed again elsewhere" in logs[0]


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_lost_workers_are_none_of_the_retries(tmp_path: Path, how: str) -> None:
    with Flow("dies") as flow:
        node = steps.dies.copy(retries=0)(str(tmp_path), 2, how)
        other = steps.total([steps.inc(number) for number in range(10)])
    with mock() as recorder:
        state = flow.run(executor=ProcessExecutor(2))
        entry = recorder.run.task("dies")
    assert state.result[node].result == 3 and state.result[other].result == 55
    assert (entry.state, entry.attempt) == ("COMPLETED", 3)
    # What it said before it died is known, and comes before the notice that it did.
    assert [line for line in entry.logs if "lost" not in line] == [
        f"attempt {number}" for number in (1, 2, 3)
    ]
    assert ["lost" in line for line in entry.logs] == [False, True, False, True, False]


def test_a_task_that_always_takes_its_worker_along_fails(tmp_path: Path) -> None:
    with Flow("dies") as flow:
        node = steps.dies(str(tmp_path), 99)
        other = steps.one()
    state = run(flow)
    error = state.result[node].result
    assert type(error) is WorkerLost and "ended with exit code 3" in error.worker
    # Three workers for the call; its one retry is its own, and another loss is not made up for.
    assert len(os.listdir(tmp_path)) == 4
    assert state.result[other].result == 1


def test_a_worker_that_dies_while_it_is_idle_is_not_missed() -> None:
    killed = []

    def kill(task: Any, old: State, new: State) -> None:
        if new.is_successful():
            os.kill(new.result, signal.SIGKILL)
            poll_until(lambda: is_gone(new.result))
            killed.append(new.result)

    with Flow("idle") as flow:
        node: Any = steps.pid.copy(state_handlers=[kill])()
        after = steps.pid.copy(name="after")(node)
    with mock() as recorder:
        state = flow.run(executor=ProcessExecutor(1))
        assert recorder.run.task("after").attempt == 1
    assert state.result[node].result in killed and state.result[after].result not in killed


def kills(*told: Path) -> Any:
    """A state handler that kills the worker of its task, and those whose ids stand in files."""

    def handler(task: Any, old: State, new: State) -> None:
        if new.is_successful():
            for path in told:
                poll_until(path.exists)
            for pid in (new.result, *(int(path.read_text()) for path in told)):
                os.kill(pid, signal.SIGKILL)
                poll_until(lambda: is_gone(pid))
            for path in told:
                path.with_suffix(".gate").touch()

    return handler


def test_an_idle_worker_that_dies_beside_a_busy_one_is_replaced(tmp_path: Path) -> None:
    gate = tmp_path / "busy.gate"
    met = tmp_path / "met"
    met.mkdir()

    def kill_and_open(task: Any, old: State, new: State) -> None:
        kills()(task, old, new)
        if new.is_successful():
            gate.touch()

    with Flow("idle beside busy") as flow:
        busy = steps.waits_for(str(gate), str(tmp_path / "busy"))
        idle: Any = steps.pid.copy(state_handlers=[kill_and_open])()
        for who in "ab":  # which takes two workers
            node: Any = steps.meets.copy(name=who)(str(met), who, 1)
            flow.set_dependencies(node, upstream_tasks=[busy, idle])
    state = run(flow)
    assert state.is_successful(), state


def test_busy_and_idle_workers_that_die_at_once(tmp_path: Path) -> None:
    told = tmp_path / "busy"
    with Flow("all at once") as flow:
        busy = steps.waits_for(str(told.with_suffix(".gate")), str(told))
        idle: Any = steps.pid.copy(state_handlers=[kills(told)])()
    state = run(flow)
    assert state.is_successful(), state
    assert state.result[busy].result != state.result[idle].result


def test_a_lost_worker_is_noticed_while_its_child_lives_on(tmp_path: Path) -> None:
    with Flow("orphan") as flow:
        node = steps.leaves_child(str(tmp_path / "child"))
    state = run(flow)
    child = state.result[node].result
    assert not is_gone(child)
    os.kill(child, signal.SIGKILL)


def test_what_was_in_time_but_not_heard_in_time_counts(tmp_path: Path) -> None:
    """Home is busy with a state handler while the time of a task runs out that has ended."""
    begun, ended = tmp_path / "begun", tmp_path / "ended"

    def keep_home_busy(task: Any, old: State, new: State) -> None:
        if new.is_successful():
            poll_until(ended.exists)
            time.sleep(0.5)

    with Flow("late") as flow:
        quick = steps.says_and_ends.copy(timeout=0.5)(str(begun), str(ended))
        steps.waits_for.copy(state_handlers=[keep_home_busy])(str(begun), str(tmp_path / "told"))
    with mock():
        state = flow.run(executor=ProcessExecutor(2))
    assert state.result[quick].result == "in time"


def test_at_its_timeout_a_task_is_killed_with_its_worker(tmp_path: Path) -> None:
    """Also one that lets nothing else in its process run."""
    told = tmp_path / "pid"
    with Flow("timeouts") as flow:
        hog = steps.hogs()
        node = steps.waits_for.copy(timeout=0.3)(str(tmp_path / "never"), str(told))
        others = [steps.pid(number) for number in range(4)]
    state = run(flow, 2)
    for one in (hog, node):
        assert type(state.result[one].result) is TaskTimeout
    assert is_gone(int(told.read_text()))
    assert all(state.result[one].is_successful() for one in others)


def test_a_timeout_does_not_outlast_its_task() -> None:
    """The worker that met its limit in time is not killed for it later."""
    with Flow("in time") as flow:
        first = steps.pid.copy(timeout=0.2)()
        after = steps.sleeps(0.5, first)
    state = run(flow, 1)
    assert state.result[after].result == state.result[first].result


# --- what can't be sent -------------------------------------------------------------------------


def not_sent(flow: Flow, node: Any) -> str:
    """Why a task of a flow could not be sent; another task of it, and what comes after, are no worse for it."""
    with flow:
        other = steps.one()
    state = run(flow)
    assert state.result[other].result == 1
    error = state.result[node].result
    assert type(error) is NotSendable, error
    assert error.task == node.task.name and repr(node.task.name) in str(error)
    return str(error)


def test_a_task_inside_a_function_is_refused() -> None:
    @task
    def local() -> None: ...

    with Flow("local") as flow:
        nodes: list[Any] = [local(), task(name="lambda")(lambda: None)()]
    for node in nodes:
        message = not_sent(flow, node)
        assert "define it at the top level of a module, or run it in threads" in message


def test_an_object_that_can_not_travel_is_refused() -> None:
    class Local(Task[..., Any]):
        def run(self) -> None: ...

    holder: Any = steps.Plus(1)
    holder.lock = threading.Lock()
    with Flow("objects") as flow:
        nodes: list[Any] = [Local()(), holder(1)]
    assert "Local" in not_sent(flow, nodes[0])
    assert "cannot pickle '_thread.lock' object" in not_sent(flow, nodes[1])


def test_an_argument_that_can_not_travel_is_named() -> None:
    with Flow("arguments") as flow:
        by_place: Any = steps.takes(1, threading.Lock())
        by_name: Any = steps.takes(x=(n for n in range(3)))
        bomb: Any = steps.takes(steps.Bomb())
    assert "its argument 'y' (a _thread.lock) can't be pickled" in not_sent(flow, by_place)
    message = not_sent(flow, by_name)
    assert "its argument 'x' (a generator) can't be pickled" in message
    assert "hand over what it can be made from there" in message
    assert "can't be read there: UnpicklingError: it explodes" in not_sent(flow, bomb)


def test_a_result_that_can_not_travel_is_named() -> None:
    with Flow("results") as flow:
        lock: Any = steps.gives_lock()
        bomb: Any = steps.gives_bomb()
    message = not_sent(flow, lock)
    assert "the result of task 'gives_lock' (a _thread.lock) can't be sent home" in message
    assert "can't be read here: UnpicklingError: it explodes" in not_sent(flow, bomb)


def test_what_a_test_put_in_a_tasks_place_runs_here() -> None:
    lock = threading.Lock()
    with Flow("stubbed") as flow:
        node = steps.inc(1)
        after = steps.takes(node)
        failing = steps.double(2)
    with mock() as recorder:
        recorder.stub(steps.inc, lambda x: (os.getpid(), x))
        recorder.stub(steps.takes, lambda x: lock)
        recorder.fail(steps.double, "as wished")
        state = flow.run(executor=ProcessExecutor(2))
        assert [one.state for one in recorder.run.tasks] == ["COMPLETED", "COMPLETED", "FAILED"]
    assert state.result[node].result == (os.getpid(), 1)
    assert state.result[after].result is lock and "as wished" in state.result[failing].message


# --- inside a worker ------------------------------------------------------------------------------


def test_a_worker_keeps_nothing_of_the_last_task() -> None:
    with Flow("memory") as flow:
        before: Any = steps.alive()
        kept = steps.keeps_nothing(steps.Tracer())
        after = steps.alive.copy(name="after")(before)
    flow.set_dependencies(after, upstream_tasks=[kept])
    state = run(flow, 1)
    assert state.result[after].result == state.result[before].result


def test_what_a_task_sets_in_its_context_ends_with_it() -> None:
    with Flow("context") as flow:
        first = steps.sets_context()
        second = steps.sets_context.copy(name="second")()
    flow.set_dependencies(second, upstream_tasks=[first])
    state = run(flow, 1)
    assert state.result[second].result == state.result[first].result


def test_what_a_thread_of_a_task_prints_is_the_tasks() -> None:
    with Flow("thread") as flow:
        steps.has_thread()
    with mock() as recorder:
        assert flow.run(executor=ProcessExecutor(1)).is_successful()
        assert recorder.run.task("has_thread").logs == ["in a thread"]


def test_a_child_of_a_worker_does_not_write_in_between() -> None:
    with Flow("forks") as flow:
        nodes = [steps.forks.copy(name=f"forks {number}")() for number in range(4)]
    with mock():
        state = flow.run(executor=ProcessExecutor(2))
    assert [state.result[node].result for node in nodes] == [7] * 4


def test_signals_are_for_the_process_that_started_it() -> None:
    former = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with Flow("signals") as flow:
            node = steps.signals()
        assert run(flow).result[node].result == (True, True)
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_flow_called_in_a_worker_is_a_run_of_its_own(
    tmp_path: Path, backend: BackendProcess
) -> None:
    script = Script(
        tmp_path / "calls.py",
        """
        from perfect.core import Flow, ProcessExecutor
        from tests.graph import graph_steps as steps

        if __name__ == "__main__":
            with Flow("calls a flow") as outer:
                node = steps.calls_flow()
            state = outer.run(executor=ProcessExecutor(1))
            assert state.result[node].result == 1, state
        """,
        backend_url=backend.url,
    )
    done = script.run()
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("calls a flow", "called in a task"):
        backend.wait_for_run(lambda run: run["flowName"] == name and run["state"] == "COMPLETED")


# --- without the process that started them ------------------------------------------------------------

ORPHANS = """
    from perfect.core import *
    from tests.graph import graph_steps as steps

    if __name__ == "__main__":
        folder, method = sys.argv[1:]
        with Flow("orphans") as f:
            met = [steps.meets(folder, who, 2) for who in "abc"]
            steps.tells_and_sleeps(steps.takes(met))  # two of three workers are idle then
        FlowRunner(f).run(executor=ProcessExecutor(3, start_method=method))
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_end_when_their_parent_is_killed(tmp_path: Path, method: str) -> None:
    folder = tmp_path / "met"
    folder.mkdir()
    with Script(tmp_path / "orphans.py", ORPHANS).started(folder, method) as process:
        busy = int(await_line(process, "pid").split()[1])
        workers = set(children_of(process.pid))
        assert busy in workers and len(workers) >= 3
        process.kill()
        process.wait()
        for pid in workers:
            poll_until(lambda: is_gone(pid), 5)


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = Script(
        tmp_path / "unguarded.py",
        """
        from perfect.core import *

        @task
        def step():
            return 1

        with Flow("unguarded") as f:
            step()
        FlowRunner(f).run(executor=ProcessExecutor(2, start_method="spawn"))
        """,
    )
    done = script.run(timeout=30)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "ConfigurationError: start_method=" in last and "ended with exit code 1" in last
    assert 'if __name__ == "__main__":' in last
    # A worker says it too, and has no workers of its own.
    assert done.stderr.count("ConfigurationError: __name__=") == 1
    assert "bootstrapping phase" not in done.stderr  # what `multiprocessing` would say


def test_tasks_of_the_script_itself(tmp_path: Path) -> None:
    script = Script(
        tmp_path / "own.py",
        """
        from perfect.core import *

        @task
        def step(x):
            return x + 1

        class Step(Task):
            def run(self, x):
                return x * 10

        if __name__ == "__main__":
            for method in ("fork", "spawn", "forkserver"):
                with Flow("own") as f:
                    node = Step()(step(1))
                state = FlowRunner(f).run(executor=ProcessExecutor(2, start_method=method))
                print(state.result[node].result)
        """,
    )
    done = script.run()
    assert (done.stdout, done.stderr) == ("20\n20\n20\n", "")


def test_what_was_printed_is_seen_although_the_worker_is_killed_later(tmp_path: Path) -> None:
    path = tmp_path / "prints.py"
    path.write_text("""
from perfect.core import *
from tests.graph import graph_steps as steps

if __name__ == "__main__":
    with Flow("prints") as f:
        f.set_dependencies(steps.hogs(), upstream_tasks=[steps.talks("me")])
    FlowRunner(f).run(executor=ProcessExecutor(1))
""")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with python(str(path), env=buffered) as process:
        out, err = process.communicate(timeout=30)
    assert (out, err) == ("me begins\nme ends\nwithout a newline", "me warns\n")


def test_of_what_was_typed_in_another_process_finds_nothing() -> None:
    text = """
from perfect.core import *
@task
def step(x):
    return x + 1
with Flow("typed") as f:
    node = step(1)
print(FlowRunner(f).run(executor=ProcessExecutor(1, start_method="spawn")).result[node].message)
"""
    with python("-c", text) as process:
        out, err = process.communicate(timeout=30)
    assert err == ""
    assert "task 'step' is not found in another process as __main__.step" in out


# --- in the middle of things ----------------------------------------------------------------------------


def test_runs_start_workers_at_the_same_time(tmp_path: Path) -> None:
    """Processes forked at once by several threads must not hold each other's pipes: else no end is noticed."""

    def one_run(number: int) -> State:
        with Flow(f"run {number}") as flow:
            for name, deaths in (("dies", 1), ("beside", 0)):
                folder = tmp_path / f"{name} {number}"
                folder.mkdir()
                steps.dies.copy(retries=0, name=name)(str(folder), deaths)
        return run(flow, 2)

    with ThreadPoolExecutor(4) as pool:
        for state in pool.map(one_run, range(12)):
            assert state.is_successful(), state


def test_after_an_error_of_the_executor_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from perfect.graph import remote

    def refuse(*args: Any) -> None:
        raise MemoryError("no room at home")

    monkeypatch.setattr(remote, "take_home", refuse)
    before = left()
    with Flow("broken") as flow:
        steps.one()
        steps.sleeps(60)
    with pytest.raises(MemoryError, match="no room at home"):
        run(flow, 2)
    assert left() == before
