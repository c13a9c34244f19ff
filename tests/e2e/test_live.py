"""The real client against a real backend process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import perfect
from perfect import TaskResult, flow, task
from perfect import session as sessions
from perfect.records import LogLine
from tests.support.backend import BackendProcess
from tests.support.processes import python

pytestmark = pytest.mark.e2e


@pytest.fixture
def live(backend: BackendProcess, request: pytest.FixtureRequest) -> BackendProcess:
    """The shared backend, with this test's client connected to it."""
    perfect.configure(backend_url=backend.url, client_id=request.node.name[:100])
    return backend


def stored(backend: BackendProcess, name: str) -> dict[str, Any]:
    """The newest run of a flow, once everything reported is delivered."""
    assert sessions.get_session().flush(10)
    found = next(run for run in backend.runs() if run["flowName"] == name)
    run: dict[str, Any] = backend.get(f"/api/runs/{found['id']}")
    return run


def test_a_run_is_stored_with_tasks_states_lines_and_results(live: BackendProcess) -> None:
    @task(estimated_time=50, description="reads")
    def extract() -> list[int]:
        print("reading")
        print("to stderr", file=sys.stderr)
        return [1, 2]

    @task(crucial_pass=False)
    def check(rows: list[int]) -> TaskResult:
        return TaskResult(False, "few rows", [{"rows": len(rows)}])

    @flow(name="stored", description="d", tags={"team": "data"})
    def etl(day: str) -> int:
        rows = extract()
        check(rows)
        print("done")
        return len(rows)

    assert etl("monday") == 2
    run = stored(live, "stored")
    assert (run["state"], run["progress"], run["tags"]) == ("COMPLETED", 100, {"team": "data"})
    assert run["parameters"] == {"day": "monday"}
    assert [(t["taskName"], t["state"]) for t in run["tasks"]] == [
        ("extract", "COMPLETED"),
        ("check", "FAILED"),
    ]
    assert run["tasks"][0]["logs"] == ["reading", "to stderr"]
    result = run["tasks"][1]["result"]
    assert result == {"passed": False, "note": "few rows", "table": [{"rows": 2}]}
    assert live.lines(run["id"])[-1] == "done"
    report = live.request("GET", run["reportPath"])[1]
    assert "done" in report and "few rows" in report


def test_loops_and_unused_tasks(live: BackendProcess) -> None:
    @task
    def extract(source: str) -> str:
        return source

    @task
    def cleanup() -> None: ...

    @task
    def load() -> None: ...

    @flow(name="dynamic")
    def dynamic(dirty: bool) -> None:
        for source in ("sales", "stock", "people"):
            extract(source)
        if dirty:
            cleanup()
        load()

    dynamic(False)
    names = [t["taskName"] for t in stored(live, "dynamic")["tasks"]]
    assert names == ["extract", "extract", "extract", "load"]


def test_names_that_hold_one_another(live: BackendProcess) -> None:
    @task
    def ok() -> str:
        return "ok"

    @task
    def look() -> str:
        return ok() + "look"

    @flow(name="alike")
    def alike() -> str:
        return look()

    assert alike() == "oklook"
    assert [t["taskName"] for t in stored(live, "alike")["tasks"]] == ["look", "ok"]


def test_a_failure_outside_any_task(live: BackendProcess) -> None:
    @task
    def fine() -> None: ...

    @flow(name="outside")
    def outside() -> None:
        fine()
        raise RuntimeError("after the task")

    with pytest.raises(RuntimeError, match="after the task"):
        outside()
    run = stored(live, "outside")
    assert run["state"] == "FAILED"
    assert run["error"]["type"] == "RuntimeError"
    assert [t["state"] for t in run["tasks"]] == ["COMPLETED"]


@pytest.mark.parametrize(
    "error",
    [urllib.error.URLError("theirs"), TimeoutError("theirs"), ConnectionError("theirs")],
    ids=lambda error: type(error).__name__,
)
def test_network_errors_of_user_code_are_the_users(live: BackendProcess, error: Exception) -> None:
    calls = []

    @task
    def fetch() -> None:
        calls.append(1)
        raise error

    name = f"theirs {type(error).__name__}"

    @flow(name=name)
    def fetching() -> None:
        fetch()

    with pytest.raises(type(error), match="theirs"):
        fetching()
    assert len(calls) == 1
    run = stored(live, name)
    assert (run["state"], run["tasks"][0]["error"]["type"]) == ("FAILED", type(error).__name__)


@pytest.mark.parametrize(
    ("label", "make"),
    [
        ("nan", lambda: float("nan")),
        ("set", lambda: {1, 2}),
        ("module", lambda: sys),
        ("bytes", lambda: b"\xff\x00"),
        ("surrogate", lambda: "\ud800"),
        ("huge", lambda: 10**400),
    ],
)
def test_odd_values_in_a_result(live: BackendProcess, label: str, make: Any) -> None:
    @task
    def odd() -> TaskResult:
        return TaskResult(True, f"odd {label} \x00\ud800", [{"value": make()}, make()])

    @flow(name=f"odd {label}")
    def odd_flow() -> TaskResult:
        return odd()

    assert odd_flow().passed
    run = stored(live, f"odd {label}")
    assert run["state"] == "COMPLETED"
    assert len(run["tasks"][0]["result"]["table"]) == 2


def test_a_circular_list_and_a_5_mb_table(live: BackendProcess) -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    rows = [{"n": n, "text": "x" * 490} for n in range(10_000)]

    @task
    def big() -> TaskResult:
        return TaskResult(True, "big", rows)

    @task
    def round_and_round() -> TaskResult:
        return TaskResult(True, "circle", circle)

    @flow(name="big")
    def big_flow() -> None:
        big()
        round_and_round()

    big_flow()
    run = stored(live, "big")
    assert run["state"] == "COMPLETED"
    assert len(run["tasks"][0]["result"]["table"]) == 10_000
    assert "<circular>" in str(run["tasks"][1]["result"]["table"])


def test_a_line_of_10_mb_is_cut_with_a_marker(live: BackendProcess) -> None:
    @task
    def shout() -> None:
        print("x" * 10_000_000)
        print("after")

    @flow(name="shout")
    def shouting() -> None:
        shout()

    shouting()
    lines = live.lines(stored(live, "shout")["id"])
    assert len(lines) == 2 and lines[1] == "after"
    assert len(lines[0]) < 66_000 and "[cut, " in lines[0]


def test_nested_pooled_and_gathered_tasks(live: BackendProcess) -> None:
    @task
    def leaf(n: int) -> int:
        print("leaf", n)
        return n

    @task
    async def later(n: int) -> int:
        await asyncio.sleep(0)
        print("later", n)
        return n

    @flow(name="many")
    async def many() -> list[int]:
        with ThreadPoolExecutor(4) as pool:
            first = list(pool.map(leaf, range(8)))
        return first + list(await asyncio.gather(*(later(n) for n in range(8))))

    assert asyncio.run(many()) == [*range(8), *range(8)]
    run = stored(live, "many")
    assert run["state"] == "COMPLETED" and len(run["tasks"]) == 16
    assert sorted(line for t in run["tasks"] for line in t["logs"]) == sorted(
        [f"leaf {n}" for n in range(8)] + [f"later {n}" for n in range(8)]
    )


def test_flows_in_threads_keep_their_lines_apart(live: BackendProcess) -> None:
    barrier = threading.Barrier(4)

    @task
    def talk(who: int) -> None:
        barrier.wait()
        for n in range(50):
            print(f"{who}:{n}")

    flows = [flow(name=f"talk {n}")(lambda n=n: talk(n)) for n in range(4)]
    threads = [threading.Thread(target=one) for one in flows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(4):
        run = stored(live, f"talk {n}")
        assert live.lines(run["id"]) == [f"{n}:{k}" for k in range(50)]


@pytest.mark.parametrize(
    "name", ["../x", "<img onerror=alert(1) src=x>", "naïve ☃ 名前", "a/b?c#d%2e"]
)
def test_names_are_only_names(live: BackendProcess, name: str) -> None:
    @flow(name=name)
    def named() -> None:
        print(name)

    named()
    run = stored(live, name)
    assert (run["flowName"], run["state"]) == (name, "COMPLETED")
    for path in (f"/runs/{run['id']}", run["reportPath"], "/"):
        status, page = live.request("GET", path)
        assert status == 200
        assert "<img" not in page


def test_a_name_of_10000_characters_is_refused_at_the_decorator() -> None:
    with pytest.raises(perfect.ConfigurationError, match=r"name='x+….*10000 characters"):
        flow(name="x" * 10_000)(lambda: None)


def test_a_triggered_run_is_tracked_like_any_other(live: BackendProcess) -> None:
    @task
    def step() -> None:
        print("triggered")

    @flow(name="again")
    def again() -> None:
        step()

    again()
    first = stored(live, "again")
    flow_id = first["flowId"]
    status, answer = live.request(
        "POST", f"/api/engine/trigger/{flow_id}", {"configuration": "release"}
    )
    assert status == 200
    run = live.wait_for_run(
        lambda run: run["id"] == answer["runId"] and run["state"] == "COMPLETED"
    )
    assert run["configuration"] == "release"
    run = live.get(f"/api/runs/{run['id']}")
    assert [t["taskName"] for t in run["tasks"]] == ["step"]
    assert live.lines(run["id"]) == ["triggered"]
    assert len([r for r in live.runs() if r["flowName"] == "again"]) == 2


def test_progress_of_a_running_task(live: BackendProcess) -> None:
    half, goes_on = threading.Event(), threading.Event()

    @task
    def slow() -> None:
        perfect.progress(0.5)
        half.set()
        goes_on.wait(20)

    @flow(name="halfway")
    def halfway() -> None:
        slow()

    thread = threading.Thread(target=halfway)
    thread.start()
    try:
        assert half.wait(10)
        run = live.wait_for_run(
            lambda run: run["flowName"] == "halfway"
            and bool(run["tasks"])
            and run["tasks"][0]["progress"] == 50
        )
        assert run["state"] == "RUNNING"
    finally:
        goes_on.set()
        thread.join()
    assert stored(live, "halfway")["tasks"][0]["progress"] == 100


def test_the_backend_dies_in_the_middle_of_a_printing_task(own_backend: BackendProcess) -> None:
    perfect.configure(backend_url=own_backend.url, flush_timeout=20)
    running, dead = threading.Event(), threading.Event()

    @task
    def printing() -> str:
        for n in range(100):
            print("before", n)
        running.set()
        assert dead.wait(20)
        for n in range(100):
            print("after", n)
        return "whole"

    @flow(name="survivor")
    def survivor() -> str:
        return printing()

    values: list[str] = []
    thread = threading.Thread(target=lambda: values.append(survivor()))
    thread.start()
    assert running.wait(10)
    own_backend.kill()
    dead.set()
    thread.join(10)
    assert values == ["whole"]
    own_backend.start()
    run = stored(own_backend, "survivor")
    assert run["state"] == "COMPLETED"
    expected = [f"{when} {n}" for when in ("before", "after") for n in range(100)]
    assert own_backend.lines(run["id"]) == expected


def test_no_backend_at_all(tmp_path: Path) -> None:
    script = tmp_path / "alone.py"
    script.write_text(textwrap.dedent("""
            from perfect import configure, flow, task
            configure(backend_url="http://127.0.0.1:9")

            @task
            def step():
                print("working")
                return 3

            @flow
            def alone():
                return step()

            print(alone(), alone())
            """))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(script)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert done.stdout == "working\nworking\n3 3\n"
    assert done.stderr.count("no backend at http://127.0.0.1:9") == 1
    assert "perfect server" in done.stderr
    assert took < 20, "the end waited for a backend that was never there"


def test_two_clients_have_a_flow_of_one_name(live: BackendProcess) -> None:
    def run_as(client: str) -> str:
        with sessions.temporary(backend_url=live.url, client_id=client) as session:
            flow(name="shared name")(lambda: print(client))()
            assert session.flush(10)
        return client

    run_as("client one")
    run_as("client two")
    flows = [f for f in live.get("/api/engine/flows") if f["name"] == "shared name"]
    assert sorted(f["clientId"] for f in flows) == ["client one", "client two"]
    assert len({f["id"] for f in flows}) == 2


def test_a_refused_event_does_not_spoil_the_run(live: BackendProcess) -> None:
    @flow(name="spoiled?")
    def spoiled() -> None:
        print("before")
        line = LogLine("not a run id", None, "stdout", "INFO", "lost", time.time())
        sessions.get_session().put(line)
        print("after")

    spoiled()
    run = stored(live, "spoiled?")
    assert run["state"] == "COMPLETED"
    assert live.lines(run["id"]) == ["before", "after"]


def test_sigterm_closes_the_run(live: BackendProcess, tmp_path: Path) -> None:
    script = tmp_path / "terminated.py"
    script.write_text(textwrap.dedent(f"""
            import signal, threading
            from perfect import configure, flow, task
            configure(backend_url={live.url!r}, client_id="terminated")

            @task
            def wait():
                print("waiting", flush=True)
                threading.Event().wait(60)

            @flow
            def terminated():
                wait()

            terminated()
            """))
    with python(str(script)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.terminate()
        assert process.wait(20) == 143
    run = live.wait_for_run(lambda run: run["flowName"] == "terminated")
    assert run["state"] == "CANCELLED"
    assert [t["state"] for t in run["tasks"]] == ["CANCELLED"]
