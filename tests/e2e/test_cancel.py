"""Runs are cancelled from outside, whatever they are at; runs that are over are run again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line, perfect_command, poll_until

pytestmark = pytest.mark.e2e

Write = Callable[..., Script]

# Each flow prints "begun" in a task that goes on until it is told to end, or is killed, and would go on after it.
FLOWS = """
    import asyncio
    from perfect import cancelled, core, unmapped

    def until_cancelled():
        print("begun", flush=True)
        while not cancelled():
            time.sleep(0.01)
        print("told", flush=True)

    @task
    def patient():
        until_cancelled()

    @task
    async def patient_async():
        print("begun", flush=True)
        while not cancelled():
            await asyncio.sleep(0.01)

    @task
    def forever(number=0):
        print("begun", flush=True)
        time.sleep(600)

    @task(retries=3, delay=600)
    def pausing():
        print("begun", flush=True)
        raise OSError("try again")

    @task
    def after(value=None):
        print("after", flush=True)

    @flow
    def plain():
        try:
            patient()
            after()
        except Exception:
            print("held up")

    @flow
    async def asynchronous():
        await asyncio.gather(patient_async(), patient_async())
        after()

    @flow
    def threaded():
        waiting = [patient.submit() for _ in range(2)]
        for one in waiting:
            one.result()
        after()

    @flow
    def pauses():
        pausing()
        after()

    @flow
    def outer():
        plain()
        after()

    def graph(name, first, executor):
        with core.Flow(name, executor=executor) as made:
            after(first())
        return made

    graphs = [
        graph("graph in threads", patient, core.ThreadExecutor(2)),
        graph("graph here", patient, core.LocalExecutor()),
        graph("graph in processes", forever, core.ProcessExecutor(2)),
        graph("asks in processes", patient, core.ProcessExecutor(2)),
        graph("asks on dask", patient, core.LocalDaskExecutor("processes", 1)),
        graph("graph that pauses", pausing, core.ThreadExecutor(2)),
    ]
"""
LISTENER = FLOWS + """
    if __name__ == "__main__":
        for one in graphs:
            one.register()
        listen(concurrency=2)
"""
NAMES = [
    *("plain", "asynchronous", "threaded", "pauses"),
    *("graph in threads", "graph here", "graph in processes", "graph that pauses"),
    *("asks in processes", "asks on dask"),
]


def trigger(backend: BackendProcess, name: str) -> str:
    """Trigger a flow as soon as it is registered; returns the run's id."""

    def found() -> Any:
        return [one["id"] for one in backend.get("/api/engine/flows") if one["name"] == name]

    flow = poll_until(found)[0]
    run: str = backend.request("POST", f"/api/engine/trigger/{flow}", {})[1]["runId"]
    return run


def state_of(backend: BackendProcess, run: str) -> str:
    state: str = backend.get(f"/api/runs/{run}")["state"]
    return state


def await_begun(backend: BackendProcess, run: str) -> None:
    poll_until(lambda: "begun" in backend.lines(run), what="the task begins")


def await_end(backend: BackendProcess, run: str) -> dict[str, Any]:
    poll_until(lambda: state_of(backend, run) not in ("PENDING", "RUNNING"), what="the run ends")
    shown: dict[str, Any] = backend.get(f"/api/runs/{run}")
    return shown


def cancel(backend: BackendProcess, run: str) -> Any:
    status, answer = backend.request("POST", f"/api/runs/{run}/cancel")
    assert status == 200, answer
    return answer


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A backend, and a client that listens."""
    folder = tmp_path_factory.mktemp("cancel")
    with BackendProcess(folder / "backend") as backend:
        script = Script(
            folder / "flows.py", LISTENER, backend_url=backend.url, home=folder / "home"
        )
        with script.started() as client:
            yield backend, client


@pytest.mark.parametrize("name", NAMES)
def test_a_running_run_is_cancelled_and_the_client_takes_the_next(
    served: tuple[BackendProcess, Any], name: str
) -> None:
    backend, client = served
    run = trigger(backend, name)
    await_begun(backend, run)
    assert cancel(backend, run)["cancelling"] is True
    shown = await_end(backend, run)
    assert (shown["state"], shown["reason"]) == ("CANCELLED", "cancelled from the dashboard")
    lines = backend.lines(run)
    assert "after" not in lines and "held up" not in lines
    states = {task["taskName"]: task["state"] for task in shown["tasks"]}
    assert states.get("after", "CANCELLED") == "CANCELLED"
    if name not in ("asynchronous", "threaded"):  # their second call has taken its place
        assert "after" in states
    if name in ("pauses", "graph in processes", "graph that pauses"):
        assert set(states.values()) == {"CANCELLED"}
    elif name not in ("asynchronous", "threaded"):
        assert "told" in lines and states["patient"] == "COMPLETED"
    assert backend.request("POST", f"/api/runs/{run}/cancel")[0] == 409
    assert client.poll() is None
    # the place is free again
    following = trigger(backend, name)
    await_begun(backend, following)
    cancel(backend, following)
    assert await_end(backend, following)["state"] == "CANCELLED"


def test_a_run_that_was_called_inside_another_ends_with_it(
    served: tuple[BackendProcess, Any],
) -> None:
    backend, _ = served
    run = trigger(backend, "outer")
    inner = poll_until(
        lambda: [one["id"] for one in backend.get("/api/runs")["runs"] if one["parent"] == run]
    )[0]
    await_begun(backend, inner)
    cancel(backend, run)
    assert await_end(backend, run)["state"] == "CANCELLED"
    assert await_end(backend, inner)["state"] == "CANCELLED"


def test_without_a_free_place_the_client_still_hears_of_it(
    served: tuple[BackendProcess, Any],
) -> None:
    backend, _ = served
    runs = [trigger(backend, "graph in processes") for _ in range(3)]
    for run in runs[:2]:
        await_begun(backend, run)
    assert state_of(backend, runs[2]) == "PENDING"
    cancel(backend, runs[0])
    assert await_end(backend, runs[0])["state"] == "CANCELLED"
    await_begun(backend, runs[2])
    for run in runs[1:]:
        cancel(backend, run)
        assert await_end(backend, run)["state"] == "CANCELLED"


def test_a_called_flow_ends_with_run_cancelled(
    own_backend: BackendProcess, write_script: Write
) -> None:
    calls = """
    if __name__ == "__main__":
        from perfect import RunCancelled
        try:
            plain()
        except Exception:
            print("an Exception")
        except RunCancelled as reason:
            print("ended:", reason)
    """
    script = write_script("called", FLOWS + calls, backend_url=own_backend.url)
    with script.started() as process:
        await_line(process, "begun")
        run = own_backend.wait_for_run(lambda run: True)["id"]
        done = perfect_command("cancel", run[:8], backend_url=own_backend.url)
        assert done.returncode == 0 and "cancelling" in done.stdout, done.stderr
        out, err = process.communicate(timeout=30)
    assert "ended: cancelled from the dashboard" in out and "an Exception" not in out
    assert (process.returncode, err) == (0, "")
    assert own_backend.get(f"/api/runs/{run}")["state"] == "CANCELLED"


def test_a_backend_that_was_away_still_says_so(
    own_backend: BackendProcess, write_script: Write
) -> None:
    script = write_script("away", LISTENER, backend_url=own_backend.url)
    with script.started():
        run = trigger(own_backend, "plain")
        await_begun(own_backend, run)
        own_backend.freeze()
        own_backend.thaw()
        cancel(own_backend, run)
        own_backend.kill()
        own_backend.start()
        shown = await_end(own_backend, run)
    assert shown["state"] == "CANCELLED" and "after" not in own_backend.lines(run)


def test_a_queued_run_is_cancelled_and_never_starts(
    own_backend: BackendProcess, write_script: Write, tmp_path: Path
) -> None:
    own_backend.request("POST", "/api/flows", {"name": "plain", "tasks": []})
    run = trigger(own_backend, "plain")
    done = perfect_command("cancel", run, backend_url=own_backend.url)
    assert done.returncode == 0 and "CANCELLED" in done.stdout, done.stderr
    done = perfect_command("cancel", run, backend_url=own_backend.url)
    assert done.returncode == 1 and "already CANCELLED" in done.stderr
    done = perfect_command("retry", run, backend_url=own_backend.url)
    assert done.returncode == 0 and "as a whole" in done.stdout, done.stderr
    again = own_backend.get(f"/api/runs/{done.stdout.split()[0]}")
    assert (again["retryOf"], again["state"]) == (run, "PENDING")
    assert again["reason"].startswith("no connected client has this flow")


# --- retry ---------------------------------------------------------------------------------------

KEEPS = """
    from perfect import StateManager, core, flowkit

    kept = StateManager(sys.argv[1])

    @task
    def fetch(day):
        print("fetch", day)
        return {"day": day}

    @task
    def load(data):
        if not os.path.exists(sys.argv[2]):
            raise OSError("not there yet")
        print("load", data["day"])

    @flowkit.task
    def first():
        print("first")
        return 1

    @flowkit.task
    def second(first):
        if not os.path.exists(sys.argv[2]):
            raise OSError("not there yet")
        print("second", first)

    first >> second

    executors = {
        "local": core.LocalExecutor(),
        "threads": core.ThreadExecutor(2),
        "processes": core.ProcessExecutor(1),
        "dask": core.LocalDaskExecutor("processes", 1),
    }
    with core.Flow("keeps", resume=kept, executor=executors[sys.argv[3]]) as keeps:
        day = core.Parameter("day")
        load(fetch(day))

    if __name__ == "__main__":
        keeps.register()
        flowkit.DAG("pipeline", tasks=[first]).register(resume=kept)
        listen()
"""


@pytest.mark.parametrize(
    ("name", "executor", "parameters", "done", "left"),
    [
        ("keeps", "local", {"day": "monday"}, "fetch", "load"),
        ("keeps", "threads", {"day": "monday"}, "fetch", "load"),
        ("keeps", "processes", {"day": "monday"}, "fetch", "load"),
        ("keeps", "dask", {"day": "monday"}, "fetch", "load"),
        ("pipeline", "local", {}, "first", "second"),
    ],
)
def test_a_retry_goes_on_from_the_failed_tasks(
    own_backend: BackendProcess,
    write_script: Write,
    tmp_path: Path,
    name: str,
    executor: str,
    parameters: dict[str, str],
    done: str,
    left: str,
) -> None:
    script = write_script("keeps", KEEPS, backend_url=own_backend.url)
    there = tmp_path / "there"
    with script.started(tmp_path / "kept.json", there, executor):
        poll_until(lambda: [f for f in own_backend.get("/api/engine/flows") if f["name"] == name])
        (flow,) = [f for f in own_backend.get("/api/engine/flows") if f["name"] == name]
        body = {"configuration": "prod", "parameters": parameters}
        status, answer = own_backend.request("POST", f"/api/engine/trigger/{flow['id']}", body)
        assert status == 200, answer
        run = answer["runId"]
        assert await_end(own_backend, run)["state"] == "FAILED"
    # another process, later
    there.touch()
    told = perfect_command("retry", run, backend_url=own_backend.url)
    assert "from the tasks that did not succeed on" in told.stdout, told.stderr
    with script.started(tmp_path / "kept.json", there, executor):
        again = await_end(own_backend, told.stdout.split()[0])
    assert (again["state"], again["retryOf"]) == ("COMPLETED", run)
    assert (again["configuration"], again["parameters"] or {}) == ("prod", parameters)
    tasks = {task["taskName"]: task for task in again["tasks"]}
    assert tasks[done]["reason"] == "result of an earlier run, which failed later"
    assert tasks[left]["state"] == "COMPLETED" and tasks[left]["reason"] is None
    lines = own_backend.lines(again["id"])
    assert len(lines) == 1 and lines[0].startswith(left)
