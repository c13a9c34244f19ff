"""The backend goes away, is not there yet, comes back: every run, state and line is there once, in order."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from perfect.spool import spools
from tests.standins.documented_backend import DocumentedBackend
from tests.support.backend import BackendProcess
from tests.support.processes import (
    Script,
    await_line,
    perfect_command,
    poll_until,
    tell,
)
from tests.support.proxy import Proxy

pytestmark = pytest.mark.e2e

Figures = Callable[..., None]
Write = Callable[..., Script]


def home() -> str:
    """The PERFECT_HOME of this test's clients."""
    return os.environ["PERFECT_HOME"]


def whole(backend: BackendProcess, run_id: str) -> dict[str, Any]:
    run: dict[str, Any] = backend.get(f"/api/runs/{run_id}")
    return run


RUNS = """
    runs, tasks, pause, name = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]

    def made(index):
        @task(name=f"step {index}")
        def step(number):
            print(f"{number}/{index} begins")
            time.sleep(pause)
            print(f"{number}/{index} ends")
        return step

    steps = [made(index) for index in range(tasks)]

    @flow(name=name)
    def counting(number):
        print(f"run {number} begins")
        for step in steps:
            step(number)
        print(f"run {number} ends")

    configure(flush_timeout=60)
    for number in range(runs):
        counting(number)
"""


@pytest.mark.parametrize(
    ("clients", "runs", "tasks", "kills"),
    [
        pytest.param(2, 5, 50, 3, id="small"),
        pytest.param(4, 50, 50, 20, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    ],
)
def test_the_backend_is_killed_again_and_again(
    own_backend: BackendProcess,
    write_script: Write,
    figures: Figures,
    clients: int,
    runs: int,
    tasks: int,
    kills: int,
) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    script = write_script("runs", RUNS, backend_url=own_backend.url)
    pause = kills * 1.2 / (runs * tasks)
    effective = 0
    with ExitStack() as stack:
        processes = [
            stack.enter_context(script.started(runs, tasks, pause, f"client {n}"))
            for n in range(clients)
        ]
        for n in range(clients):
            own_backend.wait_for_run(lambda run: run["flowName"] == f"client {n}")  # noqa: B023
        for _ in range(kills):
            time.sleep(chance.uniform(0.0, 0.6))  # when, is the point
            effective += any(process.poll() is None for process in processes)
            own_backend.kill()
            time.sleep(chance.uniform(0.0, 0.5))
            own_backend.start()
        for process in processes:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
    assert effective >= kills * 3 // 4, f"only {effective} kills met a client, seed {seed}"
    found = own_backend.runs()
    assert len(found) == clients * runs, f"seed {seed}"
    count = Counter[str]()
    numbers: dict[str, list[int]] = {}
    for entry in reversed(found):
        run = whole(own_backend, entry["id"])
        number = run["parameters"]["number"]
        numbers.setdefault(run["flowName"], []).append(number)
        assert run["state"] == "COMPLETED", f"seed {seed}"
        assert [(t["taskName"], t["state"]) for t in run["tasks"]] == [
            (f"step {n}", "COMPLETED") for n in range(tasks)
        ], f"seed {seed}"
        said = [[f"{number}/{n} begins", f"{number}/{n} ends"] for n in range(tasks)]
        assert [t["logs"] for t in run["tasks"]] == said, f"seed {seed}"
        lines = own_backend.lines(run["id"])
        assert lines == [
            f"run {number} begins",
            *(line for pair in said for line in pair),
            f"run {number} ends",
        ], f"seed {seed}"
        count.update(runs=1, tasks=len(run["tasks"]), lines=len(lines))
    assert {name: sorted(its) for name, its in numbers.items()} == {
        f"client {n}": list(range(runs)) for n in range(clients)
    }
    assert spools(home()) == []
    figures(**count, clients=clients, kills=effective, seed=seed)


ABSENT = """
    @task
    def extract(number):
        print("extracting", number)
        return number

    @task(crucial_pass=False)
    def check(number):
        return TaskResult(False, "few rows", [{"number": number}])

    @flow(name="absent")
    def absent(number):
        check(extract(number))
        print("said", number)
        if number == 2:
            raise ValueError("the third one fails")
        time.sleep(0.05)

    for number in range(5):
        try:
            absent(number)
        except ValueError:
            pass
"""

CONNECTS = "assert connect(20)\n"


@pytest.mark.parametrize("by", ["a process that connects", "a process with a flow", "the command"])
def test_a_backend_that_is_started_later_has_it_all(
    absent: BackendProcess, write_script: Write, figures: Figures, by: str
) -> None:
    script = write_script("absent", ABSENT, backend_url=absent.url)
    began = time.monotonic()
    control = script.run(mock="1")
    own_time = time.monotonic() - began
    assert control.returncode == 0, control.stderr
    began = time.monotonic()
    done = script.run()
    took = time.monotonic() - began
    assert (done.returncode, done.stdout) == (0, control.stdout), done.stderr
    assert done.stderr.count("no backend at") == 1
    assert took < own_time + 5 + 1
    (left,) = spools(home())
    assert left.events > 0 and not left.busy
    ended = time.time()
    with absent:
        if by == "the command":
            said = perfect_command("outbox", "--flush", backend_url=absent.url)
            assert said.returncode == 0, said.stderr
        else:
            text = CONNECTS if by == "a process that connects" else "flow(name='other')(print)()\n"
            other = write_script("other", text, backend_url=absent.url).run()
            assert (other.returncode, other.stderr) == (0, "")
        assert spools(home()) == []
        runs = [run for run in reversed(absent.runs()) if run["flowName"] == "absent"]
        assert [run["state"] for run in runs] == [
            *("COMPLETED", "COMPLETED", "FAILED", "COMPLETED", "COMPLETED"),
        ]
        for number, entry in enumerate(runs):
            run = whole(absent, entry["id"])
            assert run["parameters"] == {"number": number}
            assert [(t["taskName"], t["state"]) for t in run["tasks"]] == [
                ("extract", "COMPLETED"),
                ("check", "FAILED"),
            ]
            assert run["tasks"][0]["logs"] == [f"extracting {number}"]
            assert run["tasks"][1]["result"]["table"] == [{"number": number}]
            assert absent.lines(run["id"])[-1] == f"said {number}"
            at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ended))
            assert run["startTime"] <= run["endTime"] <= f"{at}.999Z"
        assert runs[2]["state"] == "FAILED"
        assert whole(absent, runs[2]["id"])["error"]["message"] == "the third one fails"
    figures(runs=len(runs), own_seconds=own_time, without_backend_seconds=took)


def test_a_backend_that_comes_while_the_first_run_goes_on(
    absent: BackendProcess, write_script: Write, figures: Figures
) -> None:
    """However long the sender means to wait before it tries again: at the end it tries once more."""
    script = write_script(
        "early",
        """
        @flow(name="early")
        def early():
            print("begun")
            sys.stdin.readline()
            print("ends")

        early()
        """,
        backend_url=absent.url,
    )
    with script.started() as process:
        await_line(process, "begun")
        time.sleep(1.5)  # the waits between attempts have become long
        with absent:
            began = time.monotonic()
            tell(process, "go on")
            _, said = process.communicate(timeout=30)
            took = time.monotonic() - began
            assert process.returncode == 0 and "wait in" not in said
            (run,) = absent.runs()
            assert run["state"] == "COMPLETED"
            assert absent.lines(run["id"]) == ["begun", "ends"]
    assert spools(home()) == []
    figures(runs=1, seconds_to_end=took)


def test_a_backend_that_takes_but_does_not_answer_holds_the_end_up_no_longer_than_told(
    own_backend: BackendProcess, write_script: Write, figures: Figures
) -> None:
    script = write_script(
        "hanging",
        """
        configure(flush_timeout=1.5)
        @task
        def step():
            print("working")
        flow(name="hanging")(lambda: [step() for _ in range(20)])()
        print("flow done", time.monotonic())
        """,
        backend_url=own_backend.url,
    )
    own_backend.freeze()
    with script.started() as process:
        done = float(await_line(process, "flow done").split()[-1])
        _, said = process.communicate(timeout=30)
        took = time.monotonic() - done
        assert process.returncode == 0, said
    assert took < 1.5 + 1.5
    assert "events" in said and "wait in" in said
    own_backend.thaw()
    assert write_script("other", CONNECTS, backend_url=own_backend.url).run().returncode == 0
    run = poll_until(lambda: own_backend.runs())[0]
    assert run["state"] == "COMPLETED"
    assert own_backend.lines(run["id"]) == ["working"] * 20
    figures(seconds_after_the_flow=took)


@pytest.mark.parametrize(
    "away",
    [
        pytest.param(2.0, id="small"),
        pytest.param(30.0, id="full", marks=pytest.mark.soak),
    ],
)
def test_a_run_goes_on_while_the_backend_is_away(
    own_backend: BackendProcess, write_script: Write, figures: Figures, away: float
) -> None:
    script = write_script(
        "going_on",
        """
        end = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.readline(), end.set()), daemon=True).start()
        count = 0

        @task
        def step():
            global count
            print("line", count)
            count += 1
            time.sleep(0.02)

        @flow(name="going on")
        def going_on():
            while not end.is_set():
                step()
            step()

        configure(flush_timeout=30)
        going_on()
        print("steps", count)
        """,
        backend_url=own_backend.url,
    )
    with script.started() as process:
        await_line(process, "line 10")
        own_backend.kill()
        time.sleep(away)
        own_backend.start()
        back = time.monotonic()
        own_backend.wait_for_run(lambda run: run["state"] == "RUNNING")
        seen = time.monotonic() - back
        tell(process, "end")
        steps = int(await_line(process, "steps").split()[-1])
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    (run,) = own_backend.runs()
    run = whole(own_backend, run["id"])
    assert run["state"] == "COMPLETED"
    assert [t["state"] for t in run["tasks"]] == ["COMPLETED"] * steps
    assert own_backend.lines(run["id"]) == [f"line {n}" for n in range(steps)]
    assert "is away" in said and "is back" not in said  # that is for those who listen to INFO
    figures(away_seconds=away, tasks=steps, lines=steps, kills=1, shown_again_after=seen)


def test_two_processes_beside_a_spool_deliver_it_once(
    absent: BackendProcess, write_script: Write, figures: Figures
) -> None:
    """Not even the requests hold anything twice: the spool's lock is what keeps them apart."""
    count = 3000
    with Proxy(absent.port) as proxy:
        url = proxy.url
        left = write_script(
            "left",
            f"""
            @flow(name="left")
            def left():
                for number in range({count}):
                    print("line", number)
            left()
            """,
            backend_url=url,
        )
        assert left.run().returncode == 0
        (spool,) = spools(home())
        assert spool.events == count + 2
        proxy.seen.clear()
        taker = write_script(
            "taker",
            """
            @flow(name="taker")
            def taking():
                print("taken")
            print("ready")
            sys.stdin.readline()
            taking()
            """,
            backend_url=url,
        )
        with absent, taker.started() as one, taker.started() as two:
            for process in (one, two):
                await_line(process, "ready")
            for process in (one, two):
                tell(process, "go")
            for process in (one, two):
                _, said = process.communicate(timeout=60)
                assert (process.returncode, said) == (0, "")
            assert spools(home()) == []
            names = sorted(run["flowName"] for run in absent.runs())
            assert names == ["left", "taker", "taker"]
            run = absent.wait_for_run(lambda run: run["flowName"] == "left")
            assert run["state"] == "COMPLETED"
            assert absent.lines(run["id"]) == [f"line {n}" for n in range(count)]
        sent = Counter(
            (session, event["seq"]) for session, events in proxy.ingested() for event in events
        )
        assert set(sent.values()) == {1}
        assert sum(session == spool.session for session, _ in sent) == spool.events
    figures(runs=3, lines=count, requests=len(proxy.seen))


def test_a_wrong_key_keeps_the_events_until_it_is_right(
    tmp_path: Path, write_script: Write, figures: Figures
) -> None:
    with BackendProcess(tmp_path / "backend", token="right-token") as backend:
        script = write_script(
            "keyed",
            """
            configure(flush_timeout=1)
            @flow(name="keyed")
            def keyed(key):
                print("said with", key)
            keyed(sys.argv[1])
            """,
            backend_url=backend.url,
        )
        for key, environment in (("no key", {}), ("wrong", {"api_key": "wrong-token"})):
            done = script.run(key, **environment)
            assert done.returncode == 0, done.stderr
            assert "refuses access" in done.stderr and "PERFECT_API_KEY" in done.stderr
            assert "wrong-token" not in done.stderr
        assert backend.runs() == [] and len(spools(home())) == 2
        done = script.run("right", api_key="right-token")
        assert (done.returncode, done.stderr) == (0, "")
        poll_until(lambda: len(backend.runs()) == 3)
        assert [(run["state"], backend.lines(run["id"])) for run in reversed(backend.runs())] == [
            ("COMPLETED", [f"said with {key}"]) for key in ("no key", "wrong", "right")
        ]
        assert spools(home()) == []
    figures(runs=3)


def test_a_documented_backend_goes_away_and_comes_back(
    write_script: Write, figures: Figures
) -> None:
    """It gets every task and line, in order; what an unanswered request had said may come twice."""
    with DocumentedBackend(silence_limit=60) as backend:
        script = write_script(
            "documented",
            """
            @task
            def step(number):
                print("line", number)
                time.sleep(0.01)

            @flow(name="documented")
            def documented():
                for number in range(60):
                    step(number)

            configure(flush_timeout=20)
            documented()
            """,
            backend_url=backend.url,
        )
        with script.started() as process:
            await_line(process, "line 10")
            backend.stop()
            await_line(process, "line 40")
            backend.start()
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said
        (run,) = backend.runs
        assert run.state == "COMPLETED"
        assert [(t.name, t.state) for t in run.tasks] == [("step", "COMPLETED")] * 60
        lines = [
            line.removeprefix("[Task Output] ") for log in run.logs for line in log.split("\n")
        ]
        assert list(dict.fromkeys(lines)) == [f"line {n}" for n in range(60)]
    figures(tasks=60, lines=len(lines), repeated=len(lines) - 60)


def test_a_documented_backend_gets_the_rest_of_a_run_from_another_process(
    write_script: Write, figures: Figures
) -> None:
    with DocumentedBackend(silence_limit=60) as backend:
        script = write_script(
            "given_up",
            """
            @task
            def step(number):
                print("line", number)

            @flow(name="given up")
            def given_up():
                for number in range(20):
                    step(number)
                sys.stdin.readline()
                for number in range(20, 40):
                    step(number)

            configure(flush_timeout=0.5)
            given_up()
            """,
            backend_url=backend.url,
        )
        with script.started() as process:
            await_line(process, "line 19")
            backend.wait_for(lambda: backend.runs and len(backend.runs[0].tasks) == 20)
            backend.wait_for(lambda: "line 19" in "\n".join(backend.runs[0].logs))
            backend.stop()
            tell(process, "go on")
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said
        assert len(spools(home())) == 1
        backend.start()
        done = write_script("other", CONNECTS, backend_url=backend.url).run()
        assert (done.returncode, done.stderr) == (0, "")
        assert spools(home()) == []
        (run,) = backend.runs
        assert run.state == "COMPLETED"
        assert [t.state for t in run.tasks] == ["COMPLETED"] * 40
        lines = [
            line.removeprefix("[Task Output] ") for log in run.logs for line in log.split("\n")
        ]
        assert list(dict.fromkeys(lines)) == [f"line {n}" for n in range(40)]
    figures(tasks=40, lines=len(lines), repeated=len(lines) - 40)
