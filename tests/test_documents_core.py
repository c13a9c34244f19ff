"""What perfect_core.md says works: its Python blocks run, as scripts, against a live backend."""

from __future__ import annotations

import ast
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import (
    CLOCK,
    WAITED,
    Bench,
    Cases,
    assert_completed,
    eventually,
    interrupt,
    last_number,
    logged,
    pauses_of,
    upstream,
)
from tests.support.markdown import Block

CASES = Cases("perfect_core.md")
DOCUMENTS = CASES.documents
covers = CASES.covers

NAMES = "from perfect.core import Flow, Parameter, Task, task\n"
# What the imperative flow is made of, which the document has written elsewhere.
ADD_AND_SAY_HELLO = """
@task
def add(x, y):
    return x + y

@task
def say_hello(person):
    print(f"Hello {person}!")

"""


def source_of(block: Block) -> str:
    return re.sub(r"\bfrom prefect\b", "from perfect.core", block.source)


@covers("perfect_core.md", "1. Concepts", 1)
def simple_subclass_and_retries(block: Block, bench: Bench) -> None:
    retried = ast.unparse(ast.parse(block.source).body[-1])
    assert retried.startswith("Task(max_retries=3")
    output = bench.run(
        CLOCK + "import datetime\nfrom types import SimpleNamespace\n"
        "requests = SimpleNamespace(get=lambda url, auth: (url, auth))\n" + source_of(block) + f"""
from perfect.core import Flow

# Tasks may be run individually.
assert plus_one(1) == plus_one.run(1) == 2
get = HTTPGetTask("ada", "secret", name="Get", max_retries=1)
assert get.run("https://example.com") == ("https://example.com", ("ada", "secret"))
assert (get.name, get.retries) == ("Get", 1)

with Flow("Simple") as flow:
    number = plus_one(1)
    answer = get(number)
state = flow.run()
assert state.is_successful()
assert state.result[number].result == 2
assert state.result[answer].result == (2, ("ada", "secret"))

class Failing(Task):
    def run(self):
        raise OSError("no answer")

Task = Failing
with Flow("Retried") as flow:
    failing = {retried}()
state = flow.run()
assert state.is_failed() and state.result[failing].is_failed()
assert isinstance(state.result[failing].result, OSError)
""" + WAITED
    )
    assert upstream(bench.completed("Simple", ["plus_one", "Get"])) == [
        ("plus_one", []),
        ("Get", [0]),
    ]
    run = bench.only("Retried")
    assert run["state"] == "FAILED"
    (task,) = run["tasks"]  # retries don't create new task runs
    assert (task["taskName"], task["state"], task["attempt"]) == ("Failing", "FAILED", 4)
    # "will retry up to 3 times, waiting 10 minutes between each retry"
    assert pauses_of(task) == [600, 600, 600] and last_number(output) >= 1800
    assert [attempt["error"]["message"] for attempt in task["attempts"]] == ["no answer"] * 3


@covers("perfect_core.md", "1. Concepts", 2)
def functional_api(block: Block, bench: Bench) -> None:
    assert block.source.rstrip().endswith("state.result[result]")
    bench.run(source_of(block) + """
assert state.type == "Success" and state.message and state.is_successful()
assert 0 <= state.result[r].result <= 100
assert state.result[result].result == state.result[r].result + 1
assert type(task) is PlusOneTask and state.result[task] is state.result[result]
assert [(edge.upstream, edge.downstream, edge.key) for edge in flow.edges] == [(r, result, "x")]
""")
    run = bench.completed("My Functional Flow", ["random_number", "PlusOneTask"])
    assert upstream(run) == [("random_number", []), ("PlusOneTask", [0])]


@covers("perfect_core.md", "1. Concepts", 3)
def imperative_api(block: Block, bench: Bench) -> None:
    bench.run(NAMES + ADD_AND_SAY_HELLO + source_of(block) + """
assert second_add is not add and set(flow.parameters()) == {"name"}
try:
    flow.run()
except ValueError as error:
    assert "name" in str(error) and "required" in str(error), error
else:
    raise AssertionError("ran without a name")

state = flow.run(parameters={"name": "Ada"})
assert state.is_successful(), state
assert (state.result[add].result, state.result[second_add].result) == (3, 103)
""")
    run = bench.completed("My imperative flow!", ["add", "add", "say_hello"])
    assert upstream(run) == [("add", []), ("add", [0]), ("say_hello", [1])]
    assert run["parameters"] == {"name": "Ada"}
    assert "Hello Ada!" in logged(run)


@covers("perfect_core.md", "1. Concepts", 4)
def registering(block: Block, bench: Bench) -> None:
    assert "call `perfect backend server` to configure" in block.source
    name = f"Registered {uuid.uuid4()}"
    flow = f"""
with Flow({name!r}) as flow:
    person = Parameter("person")
    number = add(1, y=Parameter("y", default=2))
    say_hello(person, upstream_tasks=[number])
"""
    home = {"PERFECT_HOME": str(bench.folder / "chosen"), "PERFECT_BACKEND_URL": ""}
    command = f"from perfect.cli import main\nmain(['backend', 'server', '--url', {bench.url!r}])\n"
    bench.run(command, **home)
    source = NAMES + ADD_AND_SAY_HELLO + flow + source_of(block)
    with bench.running(source + "from perfect import listen\nlisten()\n", **home) as process:
        registered = eventually(
            lambda: [flow for flow in bench.get("/api/engine/flows") if flow["name"] == name],
            process,
        )[0]
        assert [task["name"] for task in registered["tasks"]] == ["add", "say_hello"]
        assert registered["edges"] == [[0, 1]]
        assert registered["parameters"]["required"] == ["person"]
        assert registered["parameters"]["properties"] == {"person": {}, "y": {"default": 2}}
        assert bench.runs(name) == []
        bench.trigger(registered["id"], parameters={"person": "Grace"})
        run = eventually(
            lambda: [run for run in bench.runs(name) if run["state"] == "COMPLETED"], process
        )[0]
        exit_code, output = interrupt(process)
    assert exit_code == 0 and "Traceback" not in output, output
    assert_completed(run, ["add", "say_hello"])
    assert upstream(run) == [("add", []), ("say_hello", [0])]
    assert run["trigger"] == "request" and "Hello Grace!" in logged(run)


@covers("perfect_core.md", "1. Concepts", 5)
def parameters(block: Block, bench: Bench) -> None:
    promised = re.findall(r"# prints (\d+)$", block.source, re.MULTILINE)
    assert promised == ["2", "101", "3"]
    output = bench.run(source_of(block))
    assert output.split() == promised
    runs = bench.runs("Parameterized Flow")[::-1]
    assert [run["parameters"] for run in runs] == [{"x": 1}, {"x": 100}, {"x": 2}]
    for run, line in zip(runs, promised, strict=True):
        assert_completed(run, ["print_plus_one"])
        assert run["tasks"][0]["logs"] == [line]


def test_every_block_has_a_case_and_every_case_a_block() -> None:
    CASES.check_complete()


@pytest.mark.e2e
@pytest.mark.parametrize(("document", "block"), CASES.blocks, ids=CASES.ids)
def test_block(document: str, block: Block, backend: Any, tmp_path: Path) -> None:
    CASES.run(document, block, Bench(backend.url, tmp_path))
