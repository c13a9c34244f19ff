"""Flows of `perfect.core` that were registered: seen in the backend, triggered there, served here."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import perfect
from perfect.core import CronSchedule, Flow, Parameter, State, ThreadExecutor, task
from perfect.errors import GraphError
from perfect.session import get_session
from perfect.testing import Recorder
from tests.support.backend import BackendProcess

pytestmark = pytest.mark.e2e
T = TypeVar("T")
TERMINAL = {"COMPLETED", "FAILED", "CANCELLED"}


@task
def same(value: Any) -> Any:
    return value


@task
def plus(x: Any, y: Any = 1) -> Any:
    return x + y


@pytest.fixture
def served(own_backend: BackendProcess) -> Iterator[BackendProcess]:
    perfect.configure(backend_url=own_backend.url)
    yield own_backend


def until(ask: Callable[[], T | None]) -> T:
    """What is asked for, once it is there."""
    deadline = time.monotonic() + 30
    while (found := ask()) is None:
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return found


def flow_in(backend: BackendProcess, name: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        flows: list[dict[str, Any]] = backend.get("/api/engine/flows")
        return next((one for one in flows if one["name"] == name), None)

    return until(found)


def triggered(backend: BackendProcess, name: str, **parameters: Any) -> dict[str, Any]:
    """Trigger a flow with parameters and wait for the run's end."""
    flow = flow_in(backend, name)
    status, answer = backend.request(
        "POST", f"/api/engine/trigger/{flow['id']}", {"parameters": parameters}
    )
    assert status < 300, answer
    run = answer.get("flowRunId") or answer.get("run_id") or answer.get("runId") or answer["id"]

    def ended() -> dict[str, Any] | None:
        told: dict[str, Any] = backend.get(f"/api/runs/{run}")
        return told if told["state"] in TERMINAL else None

    return until(ended)


def parameterised(name: str, **options: Any) -> Flow:
    with Flow(name, **options) as flow:
        x = Parameter("x")
        same(plus(x, Parameter("y", default=1)))
    return flow


def test_it_stands_in_the_backend_with_graph_and_parameters(served: BackendProcess) -> None:
    flow = parameterised(
        "shown", schedule=CronSchedule("5 4 * * *", parameters={"x": 1}), tags={"team": "a"}
    )

    assert flow.register() is True

    told = flow_in(served, "shown")
    assert [one["name"] for one in told["tasks"]] == ["plus", "same"]
    assert told["edges"] == [[0, 1]]
    assert told["parameters"]["required"] == ["x"]
    assert told["parameters"]["properties"] == {"x": {}, "y": {"default": 1}}
    assert told["schedule"]["cron"] == "5 4 * * *"
    assert told["schedule"]["parameters"] == {"x": 1}
    assert told["tags"] == {"team": "a"}
    assert served.get("/api/runs")["runs"] == []


def test_it_is_triggered_with_parameters_and_served_in_the_background(
    served: BackendProcess,
) -> None:
    ends: list[State] = []

    def handler(flow: Any, old: State, new: State) -> None:
        if new.is_finished():
            ends.append(new)

    flow = parameterised("served", executor=ThreadExecutor(2), state_handlers=[handler])
    assert flow.register()

    run = triggered(served, "served", x=4, y=5)

    assert (run["state"], run["parameters"]) == ("COMPLETED", {"x": 4, "y": 5})
    assert [(one["taskName"], one["state"]) for one in run["tasks"]] == [
        *(("plus", "COMPLETED"), ("same", "COMPLETED"))
    ]
    assert run["trigger"] == "request"
    (end,) = ends
    assert [state.result for state in end.result.values()] == [4, 5, 9, 9]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({}, "is required and not given"), ({"x": 1, "z": 2}, "no such parameter; it has: x, y")],
)
def test_wrong_parameters_fail_the_run_or_the_request(
    served: BackendProcess, parameters: dict[str, Any], reason: str
) -> None:
    parameterised("strict").register()
    flow = flow_in(served, "strict")

    status, answer = served.request(
        "POST", f"/api/engine/trigger/{flow['id']}", {"parameters": parameters}
    )
    if status >= 400:  # the backend knows the parameters, too
        assert ("x" if not parameters else "z") in str(answer)
        return
    run = triggered(served, "strict", **parameters)
    assert run["state"] == "FAILED"
    assert reason in str(run["error"])
    assert run["tasks"] == [] or {one["state"] for one in run["tasks"]} != {"COMPLETED"}


def test_a_failure_in_a_triggered_run_is_told_and_the_next_run_is_served(
    served: BackendProcess,
) -> None:
    parameterised("fails").register()

    failed = triggered(served, "fails", x="text", y=1)
    good = triggered(served, "fails", x=1)

    assert failed["state"] == "FAILED"
    assert "'plus' failed: TypeError" in failed["reason"]
    assert good["state"] == "COMPLETED"


def test_a_change_counts_once_it_is_registered_again(served: BackendProcess) -> None:
    flow = parameterised("changes")
    flow.register()
    with flow:
        plus(Parameter("z"), 1)

    before = triggered(served, "changes", x=1)
    assert (before["state"], len(before["tasks"])) == ("COMPLETED", 2)

    flow.register()
    until(lambda: True if len(flow_in(served, "changes")["tasks"]) == 3 else None)
    after = triggered(served, "changes", x=1, z=2)
    assert (after["state"], len(after["tasks"])) == ("COMPLETED", 3)


def test_a_flow_that_can_not_run_is_not_registered(perfect_mock: Recorder) -> None:
    flow = Flow("unbound", tasks=[plus])
    with pytest.raises(GraphError, match="argument 'x' is missing"):
        flow.register()
    assert "unbound" not in perfect.sdk.get_registry().flows


def test_registering_without_a_backend_answers_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfect.running.REGISTRATION_TIME", 0.05)
    assert parameterised("unreachable").register() is False
    assert get_session().settings.backend_url == "http://127.0.0.1:9"


LISTENER = """
    from perfect.core import Flow, Parameter, task
    import perfect

    @task
    def shout(text): print(text.upper())

    with Flow("listened") as flow:
        shout(Parameter("text"))

    if __name__ == "__main__":
        flow.register()
        perfect.listen()
"""


@pytest.mark.parametrize("way", ["script", "cli"])
def test_a_process_that_listens_serves_it(
    own_backend: BackendProcess, tmp_path: Path, way: str
) -> None:
    path = tmp_path / "listened.py"
    path.write_text(textwrap.dedent(LISTENER))
    command = [str(path)] if way == "script" else ["-m", "perfect", "listen", str(path)]
    environment = {
        "PERFECT_BACKEND_URL": own_backend.url,
        "PERFECT_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(Path(perfect.__file__).parents[1]),
        "PYTHONDEVMODE": "1",
    }
    process = subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        run = triggered(own_backend, "listened", text="hello")
        assert run["state"] == "COMPLETED"
    finally:
        process.terminate()
        out, errors = process.communicate(timeout=30)
    assert "HELLO" in out
    assert errors == ""
    assert process.returncode == 0
