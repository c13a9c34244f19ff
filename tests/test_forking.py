"""Forks: what a child keeps of its parent's run, and what it must not touch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from perfect import forking
from perfect.redaction import MASK
from tests.support.backend import BackendProcess


def run_script(text: str, **environment: str) -> Any:
    """What a script in mock mode tells as JSON in its last line; -W error and development mode."""
    head = """
        import json, os, signal, sys, threading
        from perfect import configure, flow, task
        from perfect import session as sessions

        def fork(work):
            '''The exit code of a child that does some work.'''
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    work()
                    code = 0
                finally:
                    sys.stdout.flush()
                    os._exit(code)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        def recorded():
            return sessions.get_session().recorded

        def lines():
            from perfect.records import LogLine
            return [[r.task_index, r.stream, r.text] for r in recorded() if type(r) is LogLine]
        """
    done = subprocess.run(
        [
            *(sys.executable, "-X", "dev", "-W", "error", "-c"),
            textwrap.dedent(head) + textwrap.dedent(text),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PERFECT_MOCK": "1", **environment},
    )
    # What a child writes to stderr is shown there as well.
    assert (done.returncode, done.stderr.replace("and an error\n", "")) == (0, ""), done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_childs_lines_are_the_tasks_and_come_before_the_parents_next() -> None:
    found = run_script("""
        def child():
            print("from the child")
            sys.stderr.write("and an error\\n")

        @task
        def forking():
            for number in range(20):
                print("before", number)
                assert fork(child) == 0
                print("after", number)

        @flow
        def parent():
            forking()
            fork(lambda: print("of the flow"))

        parent()
        print(json.dumps(lines()))
        """)
    expected: list[Any] = []
    for number in range(20):
        expected += [
            [0, "stdout", f"before {number}"],
            [0, "stdout", "from the child"],
            [0, "stderr", "and an error"],
            [0, "stdout", f"after {number}"],
        ]
    assert found == [*expected, [None, "stdout", "of the flow"]]


def test_a_childs_child_and_a_fork_from_a_thread_are_heard() -> None:
    found = run_script("""
        def grandchild():
            print("grandchild")

        def child():
            print("child")
            assert fork(grandchild) == 0

        @task
        def forking():
            thread = threading.Thread(target=lambda: fork(child))
            thread.start()
            thread.join()

        @flow
        def parent():
            forking()

        parent()
        print(json.dumps(lines()))
        """)
    assert sorted(line[2] for line in found) == ["child", "grandchild"]


def test_a_childs_flow_is_a_run_of_its_own_and_its_tasks_are_plain_calls() -> None:
    found = run_script("""
        @task
        def step():
            print("step")
            return 3

        @flow
        def inner():
            print("inner")
            return step()

        def child():
            assert step() == 3
            before = sessions.get_session().id
            assert inner() == 3
            assert sessions.get_session().id == before != parent_session
            assert [line[2] for line in lines()] == ["inner", "step"]

        @task
        def forking():
            print("exit", fork(child))

        @flow
        def outer():
            global parent_session
            parent_session = sessions.get_session().id
            forking()

        outer()
        from perfect.records import TaskRun
        tasks = {r.task.name for r in recorded() if type(r) is TaskRun}
        print(json.dumps([lines(), sorted(tasks)]))
        """)
    assert found == [[[0, "stdout", "step"], [0, "stdout", "exit 0"]], ["forking"]]


@pytest.mark.parametrize(
    ("leave", "code"),
    [("sys.exit(7)", 7), ("raise KeyError('theirs')", 1), ("os._exit(3)", 3), ("return", 0)],
)
def test_a_child_that_leaves_through_the_flow_leaves_nothing_of_ours(leave: str, code: int) -> None:
    found = run_script(f"""
        parent = os.getpid()

        @task
        def forking():
            global pid
            pid = os.fork()
            if not pid:
                sys.stderr = open(os.devnull, "w")
                os.dup2(sys.stderr.fileno(), 2)
                {leave}
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else None

        @flow
        def outer():
            return forking()

        code = outer()
        if os.getpid() != parent:
            sys.exit(0)
        from perfect.records import FlowRun
        (run,) = {{r for r in recorded() if type(r) is FlowRun}}
        print(json.dumps([code, run.state, lines()]))
        """)
    assert found == [code, "COMPLETED", []]


def test_a_child_that_outlives_the_run_or_its_parents_interest_hurts_nobody() -> None:
    found = run_script("""
        pids = []

        @task
        def forking():
            reading, writing = os.pipe()
            pid = os.fork()
            if not pid:
                os.close(writing)
                os.read(reading, 1)  # until the run has ended
                for number in range(2000):
                    print("late", number)
                os._exit(0)
            os.close(reading)
            pids.append((pid, writing))

        @flow
        def outer():
            forking()
            print("done")

        outer()
        for pid, writing in pids:
            os.close(writing)
            assert os.waitpid(pid, 0)[1] == 0
        outer()
        os.close(pids[1][1])
        assert os.waitpid(pids[1][0], 0)[1] == 0
        print(json.dumps([line[2] for line in lines()]))
        """)
    assert found == ["done", "done"]


def test_a_secret_that_a_child_has_made_does_not_reach_the_parent() -> None:
    found = run_script("""
        from perfect.redaction import Secret

        @task
        def forking():
            fork(lambda: print("child says", Secret("made in the child").get()))

        @flow
        def outer():
            forking()

        outer()
        print(json.dumps(lines()))
        """)
    assert found == [[0, "stdout", f"child says {MASK}"]]


def test_long_lines_and_odd_text_arrive_as_they_would_without_a_fork() -> None:
    found = run_script("""
        texts = ["x" * 70_000, "\\ud800 lone", "naïve ☃\\0", "", "{}\\t[1]"]

        @task
        def forking():
            fork(lambda: [print(text) for text in texts])

        @flow
        def outer():
            forking()

        sys.stdout.reconfigure(errors="replace")
        outer()
        print(json.dumps([line[2] for line in lines()]))
        """)
    assert found[0].startswith("x" * 65_000) and "… [cut, " in found[0]
    assert found[1:] == ["? lone", "naïve ☃\0", "", "{}\t[1]"]


def test_what_somebody_else_writes_to_the_parent_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import socket

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    monkeypatch.setattr(forking, "_pair", (ours.fileno(), theirs.fileno()))
    heard: list[Any] = []
    monkeypatch.setattr(forking, "_puts", {"run": heard.append})
    for message in (
        *(b"no json", b"\n", b"[]\nx", b"{}\nx", b"null\nx", b'["run", 0]\nx', b"\xff\xfe"),
        *(b'[["run"], 0, "stdout", "INFO"]\nx', b'["gone", 0, "stdout", "INFO"]\nx'),
        b'["run", 0, "stdout", "INFO"]\n\xff',
        b'["run", 0, "stdout", "INFO"]\nfine',
    ):
        theirs.send(message)
    forking.drain()
    assert [line.text for line in heard] == ["fine"]
    forking.leave("run")
    assert forking._puts == {}
    ours.close()
    theirs.close()


LOADS: dict[str, Callable[[BackendProcess], str]] = {
    "a backend": lambda backend: backend.url,
    "no backend": lambda backend: "http://127.0.0.1:9",
    "a host name": lambda backend: backend.url.replace("127.0.0.1", "localhost"),
}


@pytest.mark.parametrize("to", LOADS)
def test_no_module_is_loaded_by_our_threads(to: str, backend: BackendProcess) -> None:
    """A child that is forked while another thread imports inherits the import's lock, for ever."""
    found = run_script(
        """
        imports = []
        ready = False

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if ready and threading.current_thread() is not threading.main_thread():
                    imports.append(name)

        sys.meta_path.insert(0, Finder())

        @task
        def step():
            print("x" * 20_000)  # enough to be compressed
            raise ValueError("password=x")

        @flow
        def outer():
            global ready
            ready = True
            try:
                step()
            except ValueError:
                pass
            threading.Event().wait(0.5)  # the backlog is written to disk meanwhile

        configure(mock=False, flush_timeout=5)
        import logging
        logging.disable()
        outer()
        sessions.reset()
        print(json.dumps(imports))
        """,
        PERFECT_BACKEND_URL=LOADS[to](backend),
    )
    assert found == []
