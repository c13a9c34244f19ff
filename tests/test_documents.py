"""What the documents say works: their Python blocks run, as scripts, against a live backend.

A block that is a signature is compared with the code instead. Every block needs a case here; a
document that gains a block fails until it has one.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import signal
import typing
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests import test_documents_core, test_documents_flowkit
from tests.documents import HERE
from tests.support.documents import Bench, Cases, assert_completed, eventually, interrupt, logged
from tests.support.markdown import Block, Signature, signature_headings
from tests.support.signatures import assert_takes

CASES = Cases("python_client.md", "client_architecture.md", "platform.md")
covers = CASES.covers

NAMES = "from perfect import CronSchedule, IntervalSchedule, configure, flow, listen, task\n"
NO_BACKEND = "http://127.0.0.1:9"


@pytest.fixture
def bench(backend: Any, tmp_path: Path) -> Bench:
    return Bench(backend.url, tmp_path)


def source_of(block: Block) -> str:
    return re.sub(r"\bperfect_client\b", "perfect", block.source)


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


def test_every_document_is_tested() -> None:
    tested = [*CASES.documents, *test_documents_core.DOCUMENTS, *test_documents_flowkit.DOCUMENTS]
    assert sorted(path.name for path in HERE.glob("*.md")) == sorted(tested)


def test_every_block_has_a_case_and_every_case_a_block() -> None:
    CASES.check_complete()


@pytest.mark.e2e
@pytest.mark.parametrize(("document", "block"), CASES.blocks, ids=CASES.ids)
def test_block(document: str, block: Block, bench: Bench) -> None:
    CASES.run(document, block, bench)


# The headings that are signatures

HEADINGS = [
    (document, heading)
    for document in CASES.documents
    for heading in signature_headings(HERE / document)
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
