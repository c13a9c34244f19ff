"""What every executor does alike: one suite, run over each of `executors_under_test.EXECUTORS`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from perfect import session as sessions
from perfect.core import Executor, Flow, FlowRunner, Parameter, State, unmapped
from perfect.errors import TaskTimeout
from perfect.records import TaskRun
from perfect.testing import RecordedRun, mock
from tests.graph import graph_steps as steps
from tests.graph.executors_under_test import EXECUTORS, UnderTest
from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line, children_of, poll_until

MEGABYTES_10 = 10 << 20


@pytest.fixture(params=EXECUTORS, ids=lambda one: one.name)
def under_test(request: pytest.FixtureRequest) -> UnderTest:
    found: UnderTest = request.param
    return found


@pytest.fixture
def executor(under_test: UnderTest) -> Iterator[Executor]:
    with under_test.make() as made:
        yield made


class Tracked:
    """What a tracked run has come to, and what was told of it."""

    def __init__(self, flow: Flow, executor: Executor, **parameters: Any) -> None:
        with mock() as recorder:
            self.state: State = flow.run(parameters, executor)
            self.run: RecordedRun = recorder.run
            records = sessions.get_session().recorded or []
        self.entries = {one.task.name: one for one in records if isinstance(one, TaskRun)}

    def attempts(self, name: str) -> list[tuple[int, str]]:
        """The earlier attempts of a task: their numbers and the types of their errors."""
        earlier = self.entries[name].attempts or []
        return [(one["attempt"], (one["error"] or {}).get("type", "")) for one in earlier]


def untracked(flow: Flow, executor: Executor, **parameters: Any) -> State:
    return FlowRunner(flow).run(parameters, executor)


def tracked(flow: Flow, executor: Executor, **parameters: Any) -> State:
    return Tracked(flow, executor, **parameters).state


@pytest.fixture(params=[untracked, tracked], ids=["untracked", "tracked"])
def run(request: pytest.FixtureRequest) -> Callable[..., State]:
    found: Callable[..., State] = request.param
    return found


# --- results --------------------------------------------------------------------------------


def test_results_are_those_of_plain_calls(executor: Executor, run: Callable[..., State]) -> None:
    with Flow("shapes") as flow:
        chain = steps.one()
        for _ in range(20):
            chain = steps.inc(chain)
        left, right = steps.inc(chain), steps.double(chain)
        diamond = steps.add(left, right)
        fan = steps.total([steps.double(steps.inc(number)) for number in range(30)])
    state = run(flow, executor)
    assert state.is_successful(), state
    found = {node: state.result[node].result for node in (chain, diamond, fan)}
    assert found == {chain: 21, diamond: 22 + 42, fan: sum(2 * (n + 1) for n in range(30))}


def test_mapped_tasks(executor: Executor, run: Callable[..., State]) -> None:
    with Flow("mapped") as flow:
        numbers = steps.several(5)
        more = steps.inc.map(numbers)
        sums: Any = steps.add.map(more, unmapped(100))
        result = steps.total(sums)
    state = run(flow, executor)
    assert state.result[sums].result == [101, 102, 103, 104, 105]
    assert state.result[result].result == 515


def test_other_kinds_of_tasks(executor: Executor, run: Callable[..., State]) -> None:
    plus: Any = steps.Plus(5, when=lambda x: x > 0)  # which can't be pickled, and need not be
    with Flow("kinds") as flow:
        found: dict[str, Any] = {
            "of a class": plus(steps.one()),
            "async": steps.waits(1),
            "a generator": steps.counts(4),
            "named otherwise": steps.named_otherwise(4),
            "a copy": steps.inc.copy(name="another")(5),
            "calls tasks": steps.nested(4),
            "keywords": steps.add(x=1, y=steps.one()),
        }
    state = run(flow, executor)
    assert state.is_successful(), state
    assert {name: state.result[node].result for name, node in found.items()} == {
        "of a class": 6,
        "async": 11,
        "a generator": [0, 1, 2, 3],
        "named otherwise": 12,
        "a copy": 6,
        "calls tasks": 9,
        "keywords": 2,
    }


def test_parameters(executor: Executor, run: Callable[..., State]) -> None:
    with Flow("parameters") as flow:
        x: Any = Parameter("x")
        y: Any = Parameter("y", default=5)
        result = steps.add(x, y)
    assert run(flow, executor, x=2).result[result].result == 7


def test_large_arguments_and_results(executor: Executor, run: Callable[..., State]) -> None:
    with Flow("large") as flow:
        data = [steps.large(MEGABYTES_10) for _ in range(3)]
        sizes = steps.total([steps.size(one) for one in data])
    state = run(flow, executor)
    assert state.result[sizes].result == 3 * MEGABYTES_10
    assert state.result[data[0]].result == bytes(range(256)) * (MEGABYTES_10 // 256)


def test_a_task_that_passed_and_one_that_did_not(executor: Executor) -> None:
    with Flow("results") as flow:
        good, bad = steps.passes(), steps.does_not_pass()
    found = Tracked(flow, executor)
    assert found.state.result[good].result.note == "fine"
    assert found.state.result[bad].is_failed()
    assert found.run.task("passes").result == {"passed": True, "note": "fine", "table": [{"a": 1}]}
    assert (found.run.task("does_not_pass").result or {})["note"] == "too few"
    assert [entry.state for entry in found.run.tasks] == ["COMPLETED", "FAILED"]


# --- failures -------------------------------------------------------------------------------


def test_a_task_that_fails(executor: Executor) -> None:
    with Flow("fails") as flow:
        failing = steps.boom(4)
        after = steps.inc(failing)
        other = steps.inc(1)
    found = Tracked(flow, executor)
    states = found.state.result
    assert states[failing].is_failed() and states[failing].message == (
        "KeyError: 'no such thing as 4'"
    )
    assert type(states[failing].result) is KeyError
    assert states[failing].result.args == ("no such thing as 4",)
    assert type(states[after]).__name__ == "TriggerFailed" and states[other].result == 2
    error = found.run.task("boom").error or {}
    assert (error["type"], error["message"]) == ("KeyError", "'no such thing as 4'")
    # The line that raised it, and none of perfect's own.
    assert 'raise KeyError(f"no such thing as {x}")' in error["traceback"]
    assert error["traceback"].count("  File ") == 1
    assert found.run.state == "FAILED"


@pytest.mark.parametrize(
    ("name", "message"),
    [("raises_odd", "1 against 2"), ("raises_coded", "7"), ("raises_lock", "holds a lock")],
)
def test_exceptions_of_every_kind(executor: Executor, name: str, message: str) -> None:
    with Flow("odd") as flow:
        node = getattr(steps, name)()
        after = steps.one()
    found = Tracked(flow, executor)
    state = found.state.result[node]
    assert state.is_failed() and message in state.message
    error = found.run.task(name).error or {}
    kind = {"raises_odd": "OddError", "raises_coded": "CodedError", "raises_lock": "HoldsLock"}
    assert (error["type"], error["message"]) == (kind[name], message)
    assert f"in {name}\n" in error["traceback"]
    if name == "raises_coded":
        assert state.result.code == 7
    assert found.state.result[after].result == 1


def test_a_task_that_exits(executor: Executor, run: Callable[..., State]) -> None:
    with Flow("exits") as flow:
        node, other = steps.leaves(), steps.one()
    state = run(flow, executor)
    assert state.result[node].is_failed() and state.result[node].message == "SystemExit: enough"
    assert state.result[other].result == 1


def test_retries_are_told_as_attempts(executor: Executor, tmp_path: Path) -> None:
    with Flow("retries") as flow:
        node = steps.third_time(str(tmp_path))
        after = steps.inc(node)
    found = Tracked(flow, executor)
    assert found.state.result[after].result == 4
    entry = found.run.task("third_time")
    assert (entry.state, entry.attempt) == ("COMPLETED", 3)
    assert found.attempts("third_time") == [(1, "ValueError"), (2, "ValueError")]
    for attempt in (1, 2):
        assert any(f"attempt {attempt} of 3 failed" in line for line in entry.logs), entry.logs
    tracebacks = [one["error"]["traceback"] for one in found.entries["third_time"].attempts or []]
    assert all("in third_time\n" in one for one in tracebacks)


def test_a_task_that_takes_too_long(executor: Executor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Flow("timeout") as flow:
        slow = steps.too_slow(str(gate))
        asleep = steps.too_slow_async()
        other = steps.total([steps.inc(number) for number in range(20)])
    found = Tracked(flow, executor)
    gate.touch()  # a thread that was left to itself ends now
    for node, name in ((slow, "too_slow"), (asleep, "too_slow_async")):
        assert type(found.state.result[node].result) is TaskTimeout
        assert (found.run.task(name).error or {})["type"] == "TaskTimeout"
    assert found.run.task("too_slow").logs[0] == "waiting"
    assert found.state.result[other].result == 210
    poll_until(lambda: not _threads("perfect-task"))


def test_when_says_no(executor: Executor) -> None:
    with Flow("when") as flow:
        ten = steps.total([4, 6])
        small, big = steps.only_large(ten), steps.only_large(steps.inc(ten))
        after = steps.takes(small)
    found = Tracked(flow, executor)
    assert found.state.result[small].is_skipped() and found.state.result[small].result is None
    assert found.state.result[big].result == 11
    assert found.state.result[after].result == "NoneType"
    assert [entry.state for entry in found.run.tasks] == [
        *("COMPLETED", "SKIPPED", "COMPLETED", "COMPLETED", "COMPLETED")
    ]


# --- what tasks say -------------------------------------------------------------------------


def test_lines_logging_and_progress_are_their_tasks(executor: Executor) -> None:
    with Flow("talk") as flow:
        for number in range(4):
            steps.talks.copy(name=f"task {number}")(f"<{number}>")
    found = Tracked(flow, executor)
    assert found.state.is_successful(), found.state
    for number in range(4):
        who = f"<{number}>"
        assert found.run.task(f"task {number}").logs == [
            f"{who} begins",
            f"steps: {who} warns",
            f"{who} ends",
            "without a newline",
        ]
        assert found.run.task(f"task {number}").progress == 0.25
    assert len(found.run.logs) == 16


def test_many_lines_keep_their_order(executor: Executor) -> None:
    with Flow("many") as flow:
        steps.says_much(3000)
    found = Tracked(flow, executor)
    assert found.run.task("says_much").logs == [f"line {number}" for number in range(3000)]


def test_what_a_task_says_is_heard_while_it_works(executor: Executor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Flow("live") as flow:
        steps.says_and_waits(str(gate))
    with mock() as recorder, ThreadPoolExecutor(1) as pool:
        run = pool.submit(flow.run, None, executor)
        try:
            poll_until(lambda: recorder.runs and recorder.run.logs == ["are you there?"])
            poll_until(lambda: recorder.run.tasks[0].progress == 0.5)
            assert recorder.run.tasks[0].state == "RUNNING"
        finally:
            gate.touch()
        assert run.result().is_successful()


@pytest.mark.parametrize("is_tracked", [False, True])
def test_the_terminal_shows_each_line_once(
    under_test: UnderTest, tmp_path: Path, is_tracked: bool
) -> None:
    if not under_test.scripted:
        pytest.skip("needs a script of its own")
    script = Script(
        tmp_path / "shows.py",
        """
        from perfect.core import *
        from perfect.testing import recorder
        from tests.graph import graph_steps as steps

        if __name__ == "__main__":
            with Flow("shown") as f:
                steps.talks("me")
            runner = f if TRACKED else FlowRunner(f)
            state = runner.run(executor=EXECUTOR)
            assert state.is_successful(), state
            print("\\nafter")
            said = [one.logs for one in recorder().runs]
            lines = ["me begins", "steps: me warns", "me ends", "without a newline"]
            assert said == ([lines] if TRACKED else []), said
            assert "perfect-relay" not in [one.name for one in threading.enumerate()]
        """.replace("TRACKED", str(is_tracked)).replace("EXECUTOR", under_test.code),
        mock="1",
    )
    done = script.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["me begins", "me ends", "without a newline", "after", ""]
    assert done.stderr == "me warns\n"


# --- side by side ---------------------------------------------------------------------------


def test_tasks_run_side_by_side(executor: Executor, under_test: UnderTest, tmp_path: Path) -> None:
    if not under_test.parallel:
        return
    with Flow("meet") as flow:
        both = [steps.meets(str(tmp_path), who, 1) for who in "ab"]
    state = untracked(flow, executor)
    assert [state.result[node].result for node in both] == ["a", "b"]


def test_two_runs_at_once_with_one_executor(executor: Executor, tmp_path: Path) -> None:
    """Each run waits in a task for the other one to be there."""

    def flow_of(who: str) -> tuple[Flow, Any]:
        with Flow(f"run {who}") as flow:
            met = steps.meets(str(tmp_path), who, 1)
            said = steps.talks(met)
        return flow, said

    with mock() as recorder, ThreadPoolExecutor(2) as pool:
        flows = [flow_of(who) for who in "ab"]
        runs = [pool.submit(flow.run, None, executor) for flow, _ in flows]
        found = [run.result().result[node].result for run, (_, node) in zip(runs, flows)]
        assert found == ["a", "b"]
        for who in "ab":
            (told,) = [one for one in recorder.runs if one.flow == f"run {who}"]
            assert told.task("talks").logs[0] == f"{who} begins" and len(told.logs) == 4


# --- afterwards -----------------------------------------------------------------------------


def _threads(prefix: str = "") -> list[str]:
    return sorted(one.name for one in threading.enumerate() if one.name.startswith(prefix))


def _left() -> tuple[list[str], list[int], int]:
    return _threads(), children_of(os.getpid()), len(os.listdir("/proc/self/fd"))


def nothing_more_than(before: tuple[list[str], list[int], int]) -> bool:
    """Whether threads, children and open files are those of before, or fewer."""
    threads, children, files = _left()
    more = (Counter(threads) - Counter(before[0])) + (Counter(children) - Counter(before[1]))
    return not more and files <= before[2]


def test_nothing_is_left_behind(executor: Executor, tmp_path: Path) -> None:
    def run_all() -> None:
        with Flow("good") as good:
            steps.total([steps.inc(number) for number in range(10)])
        with Flow("bad") as bad:
            steps.inc(steps.boom())
            steps.too_slow_async()
        assert untracked(good, executor).is_successful() and tracked(good, executor).is_successful()
        assert untracked(bad, executor).is_failed() and tracked(bad, executor).is_failed()

    run_all()  # what is made once in a process (the resource tracker of `multiprocessing`) stays
    before = _left()
    run_all()
    assert nothing_more_than(before), (_left(), before)
    assert multiprocessing.active_children() == []


INTERRUPTED = """
    from perfect.core import *
    from tests.graph import graph_steps as steps

    @task
    def waiting(number):
        os.write(1, b"pid %d\\n" % os.getpid())  # in one piece
        time.sleep(60)

    if __name__ == "__main__":
        with Flow("interrupted EXECUTOR") as f:
            first = [waiting(number) for number in range(2)]
            steps.total(first)
        f.run(executor=EXECUTOR)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_at_once(
    under_test: UnderTest, tmp_path: Path, backend: BackendProcess, number: signal.Signals
) -> None:
    if not under_test.scripted:
        pytest.skip("needs a script of its own")
    text = INTERRUPTED.replace("EXECUTOR", under_test.code)
    name = f"interrupted {under_test.code}"
    # Its own, among those of the tests that share the backend.
    client = f"interrupted-{os.urandom(8).hex()}"
    script = Script(tmp_path / "interrupted.py", text, backend_url=backend.url, client_id=client)
    with script.started() as process:
        pids = {int(await_line(process, "pid").split()[1])}
        if under_test.parallel:
            pids.add(int(await_line(process, "pid").split()[1]))
        if number is signal.SIGINT:  # a terminal sends it to the whole group
            for pid in {process.pid, *pids}:
                os.kill(pid, number)
        else:
            process.send_signal(number)
        process.communicate(
            timeout=10
        )  # the promise is 5 s, on a machine that has nothing else to do
        assert process.returncode == {signal.SIGINT: -2, signal.SIGTERM: 143}[number]
    for pid in pids:
        assert not os.path.exists(f"/proc/{pid}")
    found = backend.wait_for_run(
        lambda run: run["clientId"] == client and run["state"] == "CANCELLED"
    )
    whole = backend.get(f"/api/runs/{found['id']}")
    assert {one["state"] for one in whole["tasks"]} == {"CANCELLED"}, name
