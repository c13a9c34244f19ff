"""Forks, pools, signals, exits: stdout is restored, the run is closed, and the process ends in time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from perfect.spool import spools
from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line, is_stopped, poll_until, tell

pytestmark = pytest.mark.e2e

Figures = Callable[..., None]
Write = Callable[..., Script]


def run_of(backend: BackendProcess, name: str) -> dict[str, Any]:
    """The only run of a flow, whole, once it has ended."""
    backend.wait_for_run(lambda run: run["flowName"] == name and run["state"] != "RUNNING")
    (found,) = [run for run in backend.runs() if run["flowName"] == name]
    run: dict[str, Any] = backend.get(f"/api/runs/{found['id']}")
    return run


def told(run: dict[str, Any]) -> list[tuple[str, str]]:
    return [(entry["taskName"], entry["state"]) for entry in run["tasks"]]


POOL = """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    @task
    def inner(number):
        return number * number

    def work(number):
        sys.stdout.write(f"child {number}\\n")  # at once: the children share a pipe
        sys.stderr.write(f"error {number}\\n")
        return inner(number)

    @task
    def pooled(method):
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            print("sum", sum(pool.map(work, range(20))))

    @flow(name=f"pool {sys.argv[1]}")
    def pooling(method):
        pooled(method)
        print("after the pool")

    if __name__ == "__main__":
        pooling(sys.argv[1])
        print("restored", sys.stdout is sys.__stdout__)
"""


def test_a_pool_of_forked_processes_in_a_task(
    backend: BackendProcess, write_script: Write, figures: Figures
) -> None:
    script = write_script("forked", POOL, backend_url=backend.url)
    done = script.run("fork")
    assert done.returncode == 0, done.stderr
    assert "sum 2470\n" in done.stdout and done.stdout.endswith("restored True\n")
    run = run_of(backend, "pool fork")
    assert (run["state"], told(run)) == ("COMPLETED", [("pooled", "COMPLETED")])
    logs = run["tasks"][0]["logs"]
    assert sorted(logs) == sorted(
        [*(f"child {n}" for n in range(20)), *(f"error {n}" for n in range(20)), "sum 2470"]
    )
    assert logs[-1] == "sum 2470"
    assert backend.lines(run["id"])[-1] == "after the pool"
    assert len([r for r in backend.runs() if r["flowName"] == "pool fork"]) == 1
    figures(children=2, lines=len(logs))


def test_a_pool_of_spawned_processes_in_a_task_is_left_alone(
    backend: BackendProcess, write_script: Write, figures: Figures
) -> None:
    done = write_script("spawned", POOL, backend_url=backend.url).run("spawn")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(
        [*(f"child {n}" for n in range(20)), "sum 2470", "after the pool", "restored True"]
    )
    run = run_of(backend, "pool spawn")
    assert (run["state"], told(run)) == ("COMPLETED", [("pooled", "COMPLETED")])
    assert backend.lines(run["id"]) == ["sum 2470", "after the pool"]
    figures(children=2, lines=2)


def test_forks_in_a_task(backend: BackendProcess, write_script: Write, figures: Figures) -> None:
    """A child's prints are the task's; a flow that it calls is a run of its own; its end is only its own."""
    script = write_script(
        "forks",
        """
        @flow(name="of a child")
        def of_a_child():
            print("in the child's flow")

        @task
        def forking():
            print("before")
            children = []
            for number in range(5):
                pid = os.fork()
                if not pid:
                    print("child", number)
                    if number == 0:
                        of_a_child()
                    if number == 1:
                        sys.stdout.write("no newline")
                    sys.stdout.flush()
                    if number == 2:
                        sys.exit(7)  # through the task and the flow, in the child
                    if number == 3:
                        os.abort()
                    from perfect import session
                    session.reset()
                    os._exit(0)
                children.append(pid)
            print("ends", *(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))

        @flow(name="forks")
        def forks():
            forking()

        forks()
        """,
        backend_url=backend.url,
    )
    done = script.run()
    assert done.returncode == 0, done.stderr
    print(done.stderr)
    run = run_of(backend, "forks")
    assert (run["state"], told(run)) == ("COMPLETED", [("forking", "COMPLETED")])
    logs = run["tasks"][0]["logs"]
    assert logs[0] == "before" and logs[-1] == f"ends 0 0 7 {-signal.SIGABRT} 0"
    assert sorted(line for line in logs if line.startswith("child")) == [
        f"child {number}" for number in range(5)
    ]
    assert len([r for r in backend.runs() if r["flowName"] == "forks"]) == 1
    own = run_of(backend, "of a child")
    assert own["state"] == "COMPLETED"
    assert backend.lines(own["id"]) == ["in the child's flow"]
    figures(children=5, runs=2)


def test_a_child_that_outlives_its_parent_does_not_hold_its_spool(
    absent: BackendProcess, write_script: Write, figures: Figures
) -> None:
    script = write_script(
        "outlived",
        """
        @task
        def forking():
            print("line")
            time.sleep(0.5)  # until the spool is there
            if not os.fork():
                os.close(1), os.close(2)
                sys.stdin.read()
                os._exit(0)
            print("forked")

        flow(name="outlived")(lambda: forking())()
        """,
        backend_url=absent.url,
    )
    with script.started() as process:
        await_line(process, "forked")
        assert process.wait(20) == 0
        (left,) = spools(os.environ["PERFECT_HOME"])
        assert not left.busy
        with absent:
            connecting = write_script("connecting", "assert connect(20)", backend_url=absent.url)
            assert connecting.run().returncode == 0
            assert absent.lines(run_of(absent, "outlived")["id"]) == ["line", "forked"]
        assert spools(os.environ["PERFECT_HOME"]) == []
        tell(process, "")  # the child ends with its standard input, at the end of the block
    figures(runs=1)


def test_children_that_end_as_they_like_leave_the_spool_alone(
    absent: BackendProcess, write_script: Write, figures: Figures
) -> None:
    script = write_script(
        "children",
        """
        @task
        def forking(number):
            print("line", number)
            time.sleep(0.05)
            pid = os.fork()
            if not pid:
                print("child", number)
                if number % 2:
                    sys.exit(3)  # through atexit and all that Python does at its end
                os._exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3

        @flow(name="children")
        def children():
            print("parent", os.getpid())
            for number in range(10):
                forking(number)

        children()
        print("ended", os.getpid())
        """,
        backend_url=absent.url,
    )
    done = script.run()
    assert done.returncode == 0, done.stderr
    (pid,) = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("ended")]
    assert f"parent {pid}\n" in done.stdout
    assert "Traceback" not in done.stderr
    with absent:
        connecting = write_script("connecting", "assert connect(20)", backend_url=absent.url)
        assert connecting.run().returncode == 0
        run = run_of(absent, "children")
        assert (run["state"], told(run)) == ("COMPLETED", [("forking", "COMPLETED")] * 10)
        assert absent.lines(run["id"]) == [
            f"parent {pid}",
            *(line for n in range(10) for line in (f"line {n}", f"child {n}")),
        ]
    assert spools(os.environ["PERFECT_HOME"]) == []
    figures(children=10, lines=21)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="SIGINT"),
        pytest.param(signal.SIGTERM, 143, id="SIGTERM"),
    ],
)
def test_a_signal_closes_an_async_run(
    backend: BackendProcess, write_script: Write, figures: Figures, number: int, code: int
) -> None:
    name = f"async {code}"
    script = write_script(
        "waiting_async",
        """
        import asyncio

        @task
        async def wait(number):
            print("waiting", number, flush=True)
            try:
                await asyncio.sleep(60)
            finally:
                print("cleaning up", number, flush=True)

        @flow(name=sys.argv[1])
        async def waiting():
            await asyncio.gather(wait(1), wait(2))

        asyncio.run(waiting())
        """,
        backend_url=backend.url,
    )
    with script.started(name) as process:
        await_line(process, "waiting 2")
        backend.wait_for_run(lambda run: run["flowName"] == name and len(run["tasks"]) == 2)
        began = time.monotonic()
        process.send_signal(number)
        assert exit_code(process, 20) == code, process.communicate()
        took = time.monotonic() - began
    assert took < 5
    run = run_of(backend, name)
    assert (run["state"], told(run)) == ("CANCELLED", [("wait", "CANCELLED")] * 2)
    assert sorted(backend.lines(run["id"])) == [
        *("cleaning up 1", "cleaning up 2", "waiting 1", "waiting 2"),
    ]
    figures(exit=code, seconds_to_exit=took)


WAITING = """
    @task
    def wait():
        print("waiting", flush=True)
        try:
            threading.Event().wait(60)
        finally:
            print("cleaning up", flush=True)

    @flow(name=sys.argv[1])
    def waiting():
        wait()

    if len(sys.argv) > 2:
        configure(flush_timeout=float(sys.argv[2]))
    waiting()
"""

SIGNALS = [
    pytest.param(signal.SIGINT, 130, id="SIGINT"),
    pytest.param(signal.SIGTERM, 143, id="SIGTERM"),
]


def exit_code(process: subprocess.Popen[str], timeout: float) -> int:
    """As a shell shows it: 128 and the signal's number where a signal has ended it."""
    code = process.wait(timeout)
    return 128 - code if code < 0 else code


@pytest.mark.parametrize("backend_is", ["there", "standing still"])
def test_a_signal_closes_the_run_within_5_s(
    own_backend: BackendProcess, write_script: Write, figures: Figures, backend_is: str
) -> None:
    script = write_script("waiting", WAITING, backend_url=own_backend.url)
    home = os.environ["PERFECT_HOME"]
    took = {}
    with (
        script.started("interrupted") as interrupted,
        script.started("terminated") as terminated,
    ):
        for process in (interrupted, terminated):
            await_line(process, "waiting")
        for name in ("interrupted", "terminated"):
            own_backend.wait_for_run(
                lambda run: run["flowName"] == name and bool(run["tasks"])  # noqa: B023
            )
        if backend_is == "standing still":
            own_backend.freeze()
            assert own_backend.process is not None
            pid = own_backend.process.pid
            poll_until(lambda: is_stopped(pid))
        began = time.monotonic()
        interrupted.send_signal(signal.SIGINT)
        terminated.send_signal(signal.SIGTERM)
        for process, code in ((interrupted, 130), (terminated, 143)):
            assert exit_code(process, 20) == code
            took[code] = time.monotonic() - began
            assert process.stdout is not None and "cleaning up" in process.stdout.read()
    assert max(took.values()) < 5
    if backend_is == "standing still":
        left = spools(home)
        assert len(left) == 2 and all(spool.events >= 2 for spool in left)  # the runs' ends
        own_backend.thaw()
        connecting = write_script("connecting", "assert connect(20)", backend_url=own_backend.url)
        assert connecting.run().returncode == 0
    for name in ("interrupted", "terminated"):
        run = run_of(own_backend, name)
        assert (run["state"], told(run)) == ("CANCELLED", [("wait", "CANCELLED")])
        assert own_backend.lines(run["id"]) == ["waiting", "cleaning up"]
    assert spools(home) == []
    figures(seconds_to_exit_130=took[130], seconds_to_exit_143=took[143])


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_second_signal_ends_it_at_once(
    own_backend: BackendProcess, write_script: Write, figures: Figures, number: int, code: int
) -> None:
    script = write_script("waiting", WAITING, backend_url=own_backend.url)
    with script.started("twice", 60) as process:
        await_line(process, "waiting")
        own_backend.wait_for_run(lambda run: bool(run["tasks"]))
        own_backend.freeze()
        process.send_signal(number)
        await_line(process, "cleaning up")
        # Now it waits for an answer that does not come; what it has to say is on disk soon.
        home = os.environ["PERFECT_HOME"]
        poll_until(lambda: [left for left in spools(home) if left.events >= 2])
        began = time.monotonic()
        process.send_signal(number)
        assert exit_code(process, 20) == code
        took = time.monotonic() - began
    assert took < 1
    own_backend.thaw()
    connecting = write_script("connecting", "assert connect(20)", backend_url=own_backend.url)
    assert connecting.run().returncode == 0
    run = run_of(own_backend, "twice")
    assert (run["state"], told(run)) == ("CANCELLED", [("wait", "CANCELLED")])
    figures(exit=code, seconds_to_exit=took)


def test_a_listening_process_ends_in_time_with_a_run_under_way(
    own_backend: BackendProcess, write_script: Write, figures: Figures
) -> None:
    """The first signal waits for the run, a second does not; either way the run is closed."""
    script = write_script(
        "serving",
        """
        @task
        def wait():
            print("waiting", flush=True)
            threading.Event().wait(60)

        @flow(name="served")
        def served():
            wait()

        print("listening")
        listen()
        """,
        backend_url=own_backend.url,
    )
    with script.started() as process:
        await_line(process, "listening")
        flow_id = poll_until(lambda: own_backend.get("/api/engine/flows"))[0]["id"]
        own_backend.request("POST", f"/api/engine/trigger/{flow_id}", {})
        await_line(process, "waiting")
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)  # so that the two are not taken for one
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert exit_code(process, 20) == 130
        took = time.monotonic() - began
    assert took < 5
    run = run_of(own_backend, "served")
    assert (run["state"], told(run)) == ("CANCELLED", [("wait", "CANCELLED")])
    figures(exit=130, seconds_to_exit=took)


ENDINGS = """
    import io

    original = sys.stdout

    @task
    def leaf(number):
        print("leaf", number)
        return number

    @task
    def exits():
        print("exiting")
        sys.exit(5)

    @task
    def generates(count):
        for number in range(count):
            print("yields", number)
            yield number

    @task
    def recurs(depth):
        print("depth", depth)
        return depth if depth == 0 else recurs(depth - 1)

    @task
    def threads():
        def work(number):
            print("thread", number)
            leaf(number)
        started = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()

    @task
    def unjoined():
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()

    @task
    def replaces():
        print("before")
        sys.stdout = io.StringIO()
        print("swallowed")

    @task
    def redirects():
        import contextlib
        with contextlib.redirect_stdout(io.StringIO()) as taken:
            print("taken")
            leaf(1)
        assert taken.getvalue() == "taken\\nleaf 1\\n"
        print("given back")

    @task
    def keeps():
        out, sys.stdout = sys.stdout, io.StringIO()
        sys.stdout = out  # put back by hand, while the flow goes on
        print("kept")

    @flow(name="exits")
    def flow_exits():
        exits()

    @flow(name="generates")
    def flow_generates():
        assert sum(generates(3)) == 3
        for number in generates(10):
            if number == 1:
                break

    @flow(name="recurs")
    def flow_recurs():
        recurs(20)

    @flow(name="overflows")
    def flow_overflows():
        try:
            recurs(100000)
        except RecursionError:
            print("too deep")

    @flow(name="threads")
    def flow_threads():
        threads()
        unjoined()

    @flow(name="replaces")
    def flow_replaces():
        redirects()
        keeps()
        replaces()

    try:
        globals()[f"flow_{sys.argv[1]}"]()
    finally:
        mine = sys.stdout
        sys.stdout = original
        print("restored", mine is original)
"""


@pytest.mark.parametrize(
    ("kind", "code", "state", "restored"),
    [
        ("exits", 5, "FAILED", True),
        ("generates", 0, "COMPLETED", True),
        ("recurs", 0, "COMPLETED", True),
        ("overflows", 0, "FAILED", True),
        ("threads", 0, "COMPLETED", True),
        ("replaces", 0, "COMPLETED", False),  # by the user, who has the last word
    ],
)
def test_odd_endings_close_the_run_and_restore_stdout(
    backend: BackendProcess,
    write_script: Write,
    figures: Figures,
    kind: str,
    code: int,
    state: str,
    restored: bool,
) -> None:
    done = write_script("endings", ENDINGS, backend_url=backend.url).run(kind)
    assert done.returncode == code, done.stderr
    assert done.stdout.endswith(f"restored {restored}\n")
    run = run_of(backend, kind)
    assert run["state"] == state, (run["reason"], run["error"])
    lines = backend.lines(run["id"])
    if kind == "exits":
        assert told(run) == [("exits", "FAILED")] and lines == ["exiting"]
        assert run["error"]["type"] == "SystemExit"
    elif kind == "generates":
        assert told(run) == [("generates", "COMPLETED")] * 2
        assert lines == [*(f"yields {n}" for n in range(3)), "yields 0", "yields 1"]
    elif kind == "recurs":
        assert told(run) == [("recurs", "COMPLETED")] * 21
        assert lines == [f"depth {n}" for n in range(20, -1, -1)]
    elif kind == "overflows":
        assert "too deep" in lines
        assert {entry["state"] for entry in run["tasks"]} == {"FAILED"}
    elif kind == "threads":
        assert sorted(told(run)) == sorted(
            [("threads", "COMPLETED"), ("unjoined", "COMPLETED")] + [("leaf", "COMPLETED")] * 4
        )
        assert sorted(lines) == sorted(
            [f"thread {n}" for n in range(4)] + [f"leaf {n}" for n in range(4)]
        )
    elif kind == "replaces":
        assert told(run)[0] == ("redirects", "COMPLETED")
        assert "given back" in lines and "kept" in lines and "before" in lines
        assert "swallowed" not in lines
    figures(tasks=len(run["tasks"]), lines=len(lines))
