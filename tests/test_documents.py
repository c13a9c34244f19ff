"""What the documents say works: their Python blocks run, as scripts, against a live backend.

A block that is a signature is compared with the code instead. Every block needs a case here; a
document that gains a block fails until it has one.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
import typing
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import perfect
from tests.documents import HERE
from tests.support.markdown import Block, Signature, python_blocks, signature_headings

DOCUMENTS = ("python_client.md", "client_architecture.md", "platform.md")
# Run by the tests of perfect.core and perfect.flowkit.
ELSEWHERE = ("perfect_core.md", "flowkit.md")

NAMES = "from perfect import CronSchedule, IntervalSchedule, configure, flow, listen, task\n"
SOURCE_ROOT = Path(perfect.__file__).parents[1]
NO_BACKEND = "http://127.0.0.1:9"


class Bench:
    """Runs scripts against the backend and looks at what they left there."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.client_id = f"documents-{uuid.uuid4().hex[:12]}"
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._earlier = {run["id"] for run in self.get("/api/engine/runs")}

    def get(self, path: str) -> Any:
        """The JSON at a path of the backend."""
        with self._open(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def trigger(self, flow_id: str) -> str:
        """Ask for an execution of the flow and return its run's id."""
        body = json.dumps({"configuration": "development"}).encode()
        request = urllib.request.Request(
            f"{self.url}/api/engine/trigger/{flow_id}",
            body,
            {"Content-Type": "application/json"},
            method="POST",
        )
        with self._open(request, timeout=10) as answer:
            run_id: str = json.load(answer)["runId"]
        return run_id

    def runs(self, flow_name: str) -> list[dict[str, Any]]:
        """The runs of that flow since this bench was set up, newest first."""
        return [
            run
            for run in self.get("/api/engine/runs")
            if run["flowName"] == flow_name and run["id"] not in self._earlier
        ]

    def completed(self, flow_name: str, tasks: list[str]) -> dict[str, Any]:
        """The flow's one run, which must be COMPLETED with exactly these tasks."""
        (run,) = self.runs(flow_name)
        assert_completed(run, tasks)
        return run

    def run(self, source: str, **environment: str) -> str:
        """Run a script to its end, which must be a good one, and return what it printed."""
        with self.running(source, **environment) as process:
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        assert "Traceback" not in output and "Warning" not in output, output
        return output

    @contextmanager
    def running(self, source: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """A script that is running; killed at the end if it still is."""
        script = self.folder / f"script_{uuid.uuid4().hex[:8]}.py"
        script.write_text(source, encoding="utf-8")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PERFECT_")}
        settings = {
            "PERFECT_BACKEND_URL": self.url,
            "PERFECT_CLIENT_ID": self.client_id,
            "PERFECT_HOME": str(self.folder / "home"),
            "PYTHONPATH": str(SOURCE_ROOT),
        }
        with subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", str(script)],
            cwd=self.folder,
            env=inherited | settings | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def bench(backend: Any, tmp_path: Path) -> Bench:
    return Bench(backend.url, tmp_path)


def eventually(
    look: Callable[[], Any], process: subprocess.Popen[str], timeout: float = 30.0
) -> Any:
    """The first true value of ``look``, asked again while the process runs."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = look()
        if value:
            return value
        if process.poll() is not None:
            raise AssertionError(f"the script ended: {process.communicate()[0]}")
        time.sleep(0.05)  # the backend is another process: there is nothing to wait on but HTTP
    process.kill()
    raise AssertionError(f"not within {timeout} s; the script said: {process.communicate()[0]}")


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Press Ctrl+C; the exit code and what was printed."""
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    return process.returncode, output


def assert_completed(run: dict[str, Any], tasks: list[str]) -> None:
    assert [task["taskName"] for task in run["tasks"]] == tasks, run
    assert [task["state"] for task in run["tasks"]] == ["COMPLETED"] * len(tasks), run
    assert (run["state"], run["progress"]) == ("COMPLETED", 100), run


def logged(run: dict[str, Any]) -> str:
    return json.dumps(run["logs"], ensure_ascii=False)


def source_of(block: Block) -> str:
    return re.sub(r"\bperfect_client\b", "perfect", block.source)


# The blocks

Case = Callable[[Block, Bench], None]
Place = tuple[str, str, int]
CASES: dict[Place, Case] = {}


def covers(document: str, heading: str, number: int = 1) -> Callable[[Case], Case]:
    """Make a function the case of a block."""

    def add(case: Case) -> Case:
        assert (document, heading, number) not in CASES
        CASES[document, heading, number] = case
        return case

    return add


@covers("python_client.md", "Quick Start")
def quick_start(block: Block, bench: Bench) -> None:
    tasks = ["extract_data", "transform_data"]
    with bench.running(source_of(block)) as process:
        run = eventually(
            lambda: [r for r in bench.runs("My ETL Pipeline") if r["state"] == "COMPLETED"],
            process,
        )[0]
        assert_completed(run, tasks)
        assert run["tags"] == {"version": "v1.0", "team": "data-eng"}
        assert "Extracting data..." in logged(run)
        assert "Transforming 1000 records..." in logged(run)

        triggered = bench.trigger(run["flowId"])
        eventually(
            lambda: [
                r
                for r in bench.runs("My ETL Pipeline")
                if r["id"] == triggered and r["state"] == "COMPLETED"
            ],
            process,
        )
        second, first = bench.runs("My ETL Pipeline")
        assert (second["id"], first["id"]) == (triggered, run["id"])
        assert_completed(second, tasks)
        assert "Transforming 1000 records..." in logged(second)
        exit_code, output = interrupt(process)
    # Ctrl+C ends the script's own time.sleep(), as it ends any Python script.
    assert exit_code in (-signal.SIGINT, 128 + signal.SIGINT, 0), output
    assert "Extracting data..." in output
    assert output.count("Traceback") <= 1, output


@covers("python_client.md", "Task Decorator Parameters")
def task_decorator(block: Block, bench: Bench) -> None:
    bench.run(
        NAMES + source_of(block) + "def decorated():\n    return 7\n\n"
        '@flow(name="Decorated task")\ndef caller():\n    return decorated()\n\n'
        "assert caller() == 7\n"
    )
    run = bench.completed("Decorated task", ["decorated"])
    assert run["tasks"][0]["crucialPass"] is True


@covers("python_client.md", "Flow Decorator Parameters")
def flow_decorator(block: Block, bench: Bench) -> None:
    bench.run(
        NAMES + source_of(block) + "def decorated():\n    return 7\n\nassert decorated() == 7\n"
    )
    run = bench.completed("My Flow", [])
    assert run["tags"] == {"version": "v1.0", "team": "data-eng"}
    (flow,) = [flow for flow in bench.get("/api/engine/flows") if flow["id"] == run["flowId"]]
    assert flow["description"] == "What this flow does"


@covers("python_client.md", "Configuration (Optional)")
def configuration(block: Block, bench: Bench) -> None:
    source = source_of(block).replace("http://localhost:3000", bench.url)
    assert bench.url in source
    bench.run(
        NAMES
        + source
        + '@task\ndef work():\n    pass\n\n@flow(name="Configured")\ndef configured():\n'
        "    work()\n\nconfigured()\n",
        PERFECT_BACKEND_URL=NO_BACKEND,
        PERFECT_MOCK="1",
    )
    bench.completed("Configured", ["work"])


@covers("python_client.md", "Listen Function")
def listening(block: Block, bench: Bench) -> None:
    name = f"Listening {uuid.uuid4()}"
    source = (
        f"@task\ndef work():\n    print('at work')\n\n@flow(name={name!r})\ndef waiting():\n"
        "    work()\n\n"
    )
    with bench.running(NAMES + source + source_of(block) + "print('listened')\n") as process:
        flow = eventually(
            lambda: [flow for flow in bench.get("/api/engine/flows") if flow["name"] == name],
            process,
        )[0]
        assert bench.runs(name) == []
        bench.trigger(flow["id"])
        run = eventually(
            lambda: [run for run in bench.runs(name) if run["state"] == "COMPLETED"], process
        )[0]
        assert_completed(run, ["work"])
        assert "at work" in logged(run)
        exit_code, output = interrupt(process)
    assert exit_code == 0, output
    assert "listened" in output and "Traceback" not in output, output


@covers("python_client.md", "`CronSchedule(expression)`")
@covers("python_client.md", "`IntervalSchedule(expression)`")
def schedules(block: Block, bench: Bench) -> None:
    expressions = [ast.unparse(statement) for statement in ast.parse(source_of(block)).body]
    assert expressions and all("Schedule(" in expression for expression in expressions)
    name = f"Scheduled {uuid.uuid4()}"
    bench.run(
        NAMES
        + source_of(block)
        + "".join(
            f"@flow(name='{name} {number}', schedule={expression})\ndef scheduled():\n    pass\n\n"
            "scheduled()\n"
            for number, expression in enumerate(expressions)
        )
    )
    for number in range(len(expressions)):
        bench.completed(f"{name} {number}", [])


@covers("python_client.md", "Dynamic Task Execution")
def dynamic_tasks(block: Block, bench: Bench) -> None:
    helpers = """
@task
def extract_data(source):
    print(f"extracting {source}")

@task
def cleanup_data():
    pass

@task
def load_to_warehouse():
    pass

"""
    for needs_cleanup in (False, True):
        fresh = Bench(bench.url, bench.folder)
        fresh.run(
            f"{NAMES}{helpers}needs_cleanup = {needs_cleanup}\n\n{source_of(block)}\ndynamic_etl()\n"
        )
        cleanup = ["cleanup_data"] if needs_cleanup else []
        run = fresh.completed("Dynamic ETL", ["extract_data"] * 3 + cleanup + ["load_to_warehouse"])
        for source in ("sales", "inventory", "customers"):
            assert f"extracting {source}" in logged(run)


@covers("python_client.md", "Parallel Flow Execution")
def parallel_flows(block: Block, bench: Bench) -> None:
    flows = "".join(f"""
@task
def work{n}():
    meeting.wait(30)  # all three run at once, or none gets past this
    print("line of flow{n}")

@flow
def flow{n}():
    work{n}()

""" for n in (1, 2, 3))
    bench.run(f"{NAMES}import threading\nmeeting = threading.Barrier(3)\n{flows}{source_of(block)}")
    for n in (1, 2, 3):
        run = bench.completed(f"flow{n}", [f"work{n}"])
        assert [m for m in (1, 2, 3) if f"line of flow{m}" in logged(run)] == [n]


@covers("client_architecture.md", "4. Application Layer (`example_flows.py`)")
def application_layer(block: Block, bench: Bench) -> None:
    bench.run(source_of(block) + "\nmy_flow()\n")
    run = bench.completed("My Flow", ["my_task"])
    assert run["tags"] == {"version": "v1.0"}
    assert "Executing task..." in logged(run)
    assert run["tasks"][0]["result"] == {
        "passed": True,
        "note": "Task completed successfully",
        "table": [{"metric": "rows", "value": 100}],
    }


@covers("platform.md", "Python Client Example")
def daily_etl(block: Block, bench: Bench) -> None:
    helpers = """
data = [1, 2, 3]

def connect_to_db():
    return "connection"

@task
def transform_data(data):
    return [number * 2 for number in data]

@task
def load_data(cleaned):
    print(f"loaded {cleaned}")

"""
    # As written, the flow passes an argument to a task that takes none: its author is told.
    bench.run(
        f"{NAMES}{helpers}{source_of(block)}\n"
        "try:\n    daily_etl()\nexcept TypeError as error:\n    assert 'extract_data' in str(error)\n"
        "else:\n    raise AssertionError('no TypeError')\n"
    )
    (failed,) = bench.runs("Daily ETL Pipeline")
    assert failed["state"] == "FAILED", failed

    fresh = Bench(bench.url, bench.folder)
    meant = source_of(block).replace("def extract_data():", "def extract_data(conn):")
    assert meant != source_of(block), "the document was corrected: drop the half above"
    fresh.run(f"{NAMES}{helpers}{meant}\ndaily_etl()\n")
    run = fresh.completed("Daily ETL Pipeline", ["extract_data", "transform_data", "load_data"])
    assert "loaded [2, 4, 6]" in logged(run)


@covers("client_architecture.md", "1. Transport Layer (`api.py`)")
def api_methods(block: Block, bench: Bench) -> None:
    client_class = pkgutil.resolve_name("perfect.api:PerfectAPIClient")
    for line in block.source.splitlines():
        call, _, returned = line.partition(" -> ")
        name = call.partition("(")[0]
        method = getattr(client_class, name)
        assert_takes(method, call.replace(", ...", ""), method=True)
        assert (
            typing.get_type_hints(method)["return"] == {"bool": bool, "None": type(None)}[returned]
        )

    client = client_class(bench.url, bench.client_id)
    try:
        name = f"Through the API {uuid.uuid4()}"
        assert client.register_flow({"name": name, "tasks": [{"name": "a"}]}) is True
        (flow,) = [flow for flow in bench.get("/api/engine/flows") if flow["name"] == name]
        run_id = client.request("POST", f"/api/engine/run/{flow['id']}", {})["runId"]
        assert client.update_task_state(run_id, 0, "RUNNING", 5) is True
        assert client.send_log(run_id, "a line") is True
        assert client.send_heartbeat() is True
        assert client.update_task_state(run_id, 0, "COMPLETED", 100) is True
        client.request("POST", f"/api/runs/{run_id}/complete", {"taskCount": 1})
        assert "a line" in logged(bench.completed(name, ["a"]))
        assert client.send_log(str(uuid.uuid4()), "to nobody") is False
    finally:
        client.close()


@covers("client_architecture.md", "2. SDK Layer (`sdk.py`)")
def data_structures(block: Block, bench: Bench) -> None:
    classes = [node for node in ast.parse(block.source).body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes] == ["TaskResult", "TaskDefinition", "FlowDefinition"]
    for node in classes:
        actual: Any = pkgutil.resolve_name(f"perfect.sdk:{node.name}")
        fields = [ast.unparse(part.target) for part in node.body if isinstance(part, ast.AnnAssign)]
        assert list(inspect.signature(actual).parameters)[: len(fields)] == fields
        assert_takes(actual, f"{node.name}({', '.join(fields)})")
        values = [object() for _ in fields]
        made = actual(*values)
        assert [getattr(made, field) for field in fields] == values


def place_of(document: str, block: Block) -> Place:
    return (document, block.heading, block.number)


BLOCKS = [(document, block) for document in DOCUMENTS for block in python_blocks(HERE / document)]


def test_every_document_is_tested() -> None:
    assert sorted(path.name for path in HERE.glob("*.md")) == sorted(DOCUMENTS + ELSEWHERE)


def test_every_block_has_a_case_and_every_case_a_block() -> None:
    assert {place_of(*entry) for entry in BLOCKS} == CASES.keys()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("document", "block"), BLOCKS, ids=[f"{document}:{block.line}" for document, block in BLOCKS]
)
def test_block(document: str, block: Block, bench: Bench) -> None:
    case = CASES.get(place_of(document, block))
    assert case, f"{document}:{block.line} has no case"
    case(block, bench)


# The headings that are signatures

HEADINGS = [
    (document, heading) for document in DOCUMENTS for heading in signature_headings(HERE / document)
]

# A call as the heading has it, and the flow that shows it works.
CALLS = {
    "task": "@task(name=None, estimated_time=1000, crucial_pass=True)\ndef a_task(): pass\n"
    "@flow(name=NAME)\ndef f(): a_task()\nf()\n",
    "flow": "@flow(NAME, 'described', schedule=None)\ndef f(): pass\nf()\n",
    "CronSchedule": "@flow(name=NAME, schedule=CronSchedule('0 0 * * *'))\ndef f(): pass\nf()\n",
    "IntervalSchedule": "@flow(name=NAME, schedule=IntervalSchedule('*/5 * * * *'))\n"
    "def f(): pass\nf()\n",
}


def test_every_signature_has_a_call() -> None:
    assert {heading.name for _, heading in HEADINGS} == CALLS.keys()


@pytest.mark.parametrize(
    ("document", "heading"), HEADINGS, ids=[f"{d}:{h.line}" for d, h in HEADINGS]
)
def test_signature(document: str, heading: Signature) -> None:
    assert_takes(pkgutil.resolve_name(f"perfect.sdk:{heading.name}"), heading.call)


@pytest.mark.e2e
@pytest.mark.parametrize("name", CALLS)
def test_a_call_as_its_signature_has_it(name: str, bench: Bench) -> None:
    flow_name = f"As documented {uuid.uuid4()}"
    bench.run(f"{NAMES}NAME = {flow_name!r}\n{CALLS[name]}")
    bench.completed(flow_name, ["a_task"] if name == "task" else [])


def assert_takes(actual: Callable[..., Any], documented: str, method: bool = False) -> None:
    """Assert that a callable has the documented parameters, their defaults, and no other duties.

    Args:
        documented: a call such as ``f(a, b: int, c=1)``.
        method: the parameters must also stand in the documented order, after self.
    """
    arguments = _arguments(documented)
    found = dict(inspect.signature(actual).parameters)
    if method:
        found.pop("self")
        assert list(found)[: len(arguments)] == list(arguments)
    for name, default in arguments.items():
        assert name in found, f"{documented}: {name} is missing"
        assert found[name].kind is not inspect.Parameter.POSITIONAL_ONLY
        if default is not inspect.Parameter.empty:
            assert found[name].default == default, f"{documented}: {name}"
    for name in found.keys() - arguments.keys():
        optional = found[name].default is not inspect.Parameter.empty
        variable = found[name].kind in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        assert optional or variable, f"{documented}: {name} must be given too"


def _arguments(documented: str) -> dict[str, Any]:
    """Names and defaults of a documented call."""
    function = ast.parse(f"def {documented}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    names = [argument.arg for argument in function.args.args]
    defaults = [ast.literal_eval(node) for node in function.args.defaults]
    required = [inspect.Parameter.empty] * (len(names) - len(defaults))
    return dict(zip(names, [*required, *defaults], strict=True))
