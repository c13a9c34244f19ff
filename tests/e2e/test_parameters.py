"""Parameters from the trigger to the flow: a real client serves, a real backend checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line, perfect_command, poll_until

pytestmark = pytest.mark.e2e

FLOWS = '''
import enum
from dataclasses import dataclass, field
from datetime import date, datetime, time as clock, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict
from uuid import UUID
from perfect import current_run
from perfect.core import Flow, Parameter, ProcessExecutor, task as node

class Colour(enum.Enum):
    RED = "red"
    BLUE = 2

@dataclass
class Source:
    name: str
    since: date
    more: list["Source"] = field(default_factory=list)

class Point(NamedTuple):
    x: int
    y: float = 0.5

class Options(TypedDict, total=False):
    until: date

@task
def told_of():
    found = current_run()
    return found.id, found.parameters["text"]

@flow(tags={"team": "data"})
def every_kind(
    number: int, text: str, day: date, at: datetime, clock_time: clock, wait: timedelta,
    price: Decimal, key: UUID, path: Path, colour: Colour, kind: Literal["a", 1],
    source: Source, point: Point, options: Options, rows: list[float], pair: tuple[int, date],
    names: set[str], by_day: dict[date, int], maybe: date | None = None, flag: bool = True,
    *rest, **more: int,
):
    """Takes everything.

    Args:
        day: The day of the data.
    """
    for name, value in sorted({**locals(), "rest": None}.items()):
        print(f"{name}={value!r}")
    found = current_run()
    print("run", found.id, found.flow, found.configuration, found.trigger, found.tags, found.parent)
    print("filled in", found.parameters["flag"], found.parameters["more"])
    print("task", told_of())

@flow
def needs_even(n: int, even: "Even" = None):
    print("n is", n)

@dataclass
class Even:
    n: int
    def __post_init__(self):
        if self.n % 2:
            raise ValueError(f"{self.n} is odd")

@flow
async def later(day: date):
    print(type(day).__name__, current_run().parameters["day"])

@node
def show(day, run_in=None):
    found = current_run()
    print("in a task", day, found.configuration, found.parameters, os.getpid() != HOME)

HOME = os.environ.setdefault("HOME_PID", str(os.getpid())) and int(os.environ["HOME_PID"])

def graph():
    with Flow("graph", executor=ProcessExecutor(1)) as made:
        show(Parameter("day"), Parameter("run_in", default="here"))
    made.register()

if __name__ == "__main__":
    graph()
    threading.Timer(0, lambda: None).start()
    connect()
    print("serving", flush=True)
    listen()
'''

GIVEN: dict[str, Any] = {
    "number": 5,
    "text": "<b>x</b>",
    "day": "2024-02-29",
    "at": "2024-02-29T10:00:00+01:00",
    "clock_time": "10:30",
    "wait": "PT1H30M",
    "price": "0.10",
    "key": "00000000-0000-0000-0000-000000000005",
    "path": "a/b",
    "colour": "red",
    "kind": 1,
    "source": {"name": "a", "since": "2024-01-01", "more": [{"name": "b", "since": "2023-01-01"}]},
    "point": {"x": 1},
    "options": {"until": "2024-03-01"},
    "rows": [1, 2.5],
    "pair": [1, "2024-01-01"],
    "names": ["x"],
    "by_day": {"2024-01-01": 1},
    "more": 7,
}
TERMINAL = {"COMPLETED", "FAILED", "CANCELLED"}


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[BackendProcess]:
    """A backend, and a client that serves the flows above."""
    folder = tmp_path_factory.mktemp("parameters")
    with BackendProcess(folder / "backend") as backend:
        script = Script(
            folder / "flows.py", FLOWS, backend_url=backend.url, home=str(folder / "home")
        )
        with script.started() as process:
            await_line(process, "serving")
            poll_until(lambda: len(backend.get("/api/engine/flows")) == 4)
            yield backend


def flow_of(backend: BackendProcess, name: str) -> dict[str, Any]:
    flows: list[dict[str, Any]] = backend.get("/api/engine/flows")
    return next(flow for flow in flows if flow["name"] == name)


def trigger(backend: BackendProcess, name: str, **body: Any) -> tuple[int, Any]:
    return backend.request("POST", f"/api/engine/trigger/{flow_of(backend, name)['id']}", body)


def ended(backend: BackendProcess, name: str, **body: Any) -> dict[str, Any]:
    """A run that was asked for, once it is over."""
    status, answer = trigger(backend, name, **body)
    assert status == 200, answer
    run: dict[str, Any] = poll_until(
        lambda: (
            found
            if (found := backend.get(f"/api/runs/{answer['runId']}"))["state"] in TERMINAL
            else None
        )
    )
    return run


def test_values_of_every_kind_arrive_as_they_are_annotated(served: BackendProcess) -> None:
    run = ended(served, "every_kind", configuration="release", parameters=GIVEN)
    assert run["state"] == "COMPLETED", (run["error"], run["reason"])
    for line in (
        "at=datetime.datetime(2024, 2, 29, 10, 0, tzinfo=datetime.timezone(datetime.timedelta(seconds=3600)))",
        "by_day={datetime.date(2024, 1, 1): 1}",
        "clock_time=datetime.time(10, 30)",
        "colour=<Colour.RED: 'red'>",
        "day=datetime.date(2024, 2, 29)",
        "flag=True",
        "key=UUID('00000000-0000-0000-0000-000000000005')",
        "kind=1",
        "maybe=None",
        "more={'more': 7}",
        "names={'x'}",
        "options={'until': datetime.date(2024, 3, 1)}",
        "pair=(1, datetime.date(2024, 1, 1))",
        "path=PosixPath('a/b')",
        "point=Point(x=1, y=0.5)",
        "price=Decimal('0.10')",
        "rows=[1.0, 2.5]",
        "source=Source(name='a', since=datetime.date(2024, 1, 1), "
        "more=[Source(name='b', since=datetime.date(2023, 1, 1), more=[])])",
        "text='<b>x</b>'",
        "wait=datetime.timedelta(seconds=5400)",
        f"run {run['id']} every_kind release request {{'team': 'data'}} None",
        "filled in True 7",
        f"task ('{run['id']}', '<b>x</b>')",
    ):
        assert line in run["logs"], line
    assert run["parameters"] == GIVEN and run["configuration"] == "release"


def test_the_schema_stands_with_the_flow(served: BackendProcess) -> None:
    schema = flow_of(served, "every_kind")["parameters"]
    assert schema["properties"]["day"]["description"] == "The day of the data."
    assert "maybe" not in schema["required"] and "rest" not in schema["properties"]
    assert schema["additionalProperties"] == {"type": "integer"}
    assert flow_of(served, "graph")["parameters"]["required"] == ["day"]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("number", "five", "'five' is not a whole number"),
        ("day", "2024-02-30", "'2024-02-30' is not a date (YYYY-MM-DD)"),
        ("colour", "green", "'green' is not one of 'red', 2"),
        ("pair", [1], "has 1 parts, minItems is 2"),
        ("further", "x", "'x' is not a whole number"),
    ],
)
def test_the_backend_refuses_what_does_not_fit(
    served: BackendProcess, name: str, value: Any, problem: str
) -> None:
    status, answer = trigger(served, "every_kind", parameters={**GIVEN, name: value})
    assert status == 400
    assert answer["detail"] == [{"field": f"parameters.{name}", "problem": problem}]


def test_what_only_the_client_can_see_fails_the_run_with_the_reason(
    served: BackendProcess,
) -> None:
    """A class refuses its fields: the flow is not called, and parameter and value are named."""
    run = ended(served, "needs_even", parameters={"n": 1, "even": {"n": 3}})
    assert run["state"] == "FAILED"
    message = "parameters['even']={'n': 3}: is no Even: ValueError: 3 is odd"
    assert run["error"]["message"] == message
    assert "n is 1" not in run["logs"]
    assert run["parameters"] == {"n": 1, "even": {"n": 3}}


def test_an_async_flow_gets_its_values_too(served: BackendProcess) -> None:
    run = ended(served, "later", parameters={"day": "2024-02-29"})
    assert (run["state"], run["logs"]) == ("COMPLETED", ["date 2024-02-29"])


def test_a_graph_takes_its_parameters_and_its_processes_know_the_run(
    served: BackendProcess,
) -> None:
    run = ended(served, "graph", configuration="release", parameters={"day": "monday"})
    assert run["state"] == "COMPLETED", run["error"]
    line = "in a task monday release {'day': 'monday', 'run_in': 'here'} True"
    assert run["logs"] == [line]
    status, answer = trigger(served, "graph", parameters={"dya": "monday"})
    assert status == 400
    assert {one["field"] for one in answer["detail"]} == {"parameters.day", "parameters.dya"}


def test_the_command_line_triggers_with_parameters(served: BackendProcess) -> None:
    def command(*words: str) -> Any:
        return perfect_command("trigger", "needs_even", *words, backend_url=served.url)

    done = command("-p", "n=2", "-p", 'even={"n": 4}', "--config", "release")
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.split()[0]
    run = poll_until(
        lambda: (
            found if (found := served.get(f"/api/runs/{run_id}"))["state"] in TERMINAL else None
        )
    )
    assert (run["state"], run["logs"]) == ("COMPLETED", ["n is 2"])
    refused = command("-p", "n=two")
    assert refused.returncode == 1
    assert refused.stderr == (
        "perfect: the backend answered 400: parameters.n: 'two' is not a whole number\n"
    )


def test_the_command_line_runs_with_converted_parameters(
    write_script: Callable[..., Script],
) -> None:
    script = write_script(
        "typed",
        """
        from datetime import date

        @flow
        def typed(day: date, n: int, /, text: str = "", maybe: float | None = None):
            return f"{day!r} {n!r} {text!r} {maybe!r}"
        """,
    )

    def command(*words: str) -> Any:
        return perfect_command("run", f"{script.path}:typed", *words, mock="1")

    done = command("-p", "day=2024-02-29", "-p", "n=5", "-p", "text=5", "-p", "maybe=1")
    assert (done.returncode, done.stdout) == (0, "datetime.date(2024, 2, 29) 5 '5' 1.0\n"), done
    for words, message in (
        (("-p", "n=5"), "parameters['day']=None: is required and not given"),
        (("-p", "day=x", "-p", "n=5"), "parameters['day']='x': is not a date (YYYY-MM-DD)"),
        (("-p", "day"), "-p='day': is not NAME=JSON"),
    ):
        done = command(*words)
        assert (done.returncode, done.stderr) == (1, f"perfect: {message}\n")
