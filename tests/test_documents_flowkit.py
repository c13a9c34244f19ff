"""What flowkit.md says works: its Python blocks run, as scripts, against a live backend."""

from __future__ import annotations

import ast
import datetime
import json
import os
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from perfect import flowkit
from perfect.outcomes import State
from tests.support.documents import (
    CLOCK,
    WAITED,
    Bench,
    Cases,
    assert_waits,
    last_number,
    logged,
    printed,
    states,
    text_between,
    upstream,
    waits_for,
)
from tests.support.markdown import Block
from tests.support.signatures import assert_signature, signatures

CASES = Cases("flowkit.md")
DOCUMENTS = CASES.documents
covers = CASES.covers

NAMES = "from perfect.flowkit import DAG, Flow, LogLevel, StateManager, Task, configure_logging, get_logger, task\n"
# Two threads that meet, or neither gets past this.
MEETING = "import threading\nmeeting = threading.Barrier({count}, timeout=30)\n"


def source_of(block: Block) -> str:
    return re.sub(r"\bfrom flowkit\b", "from perfect.flowkit", block.source)


def assert_as_commented(results: dict[str, Any], block: Block) -> None:
    """Assert that results are what a comment says, ``...`` standing for anything."""
    (comment,) = re.findall(r"^print\(results\)  # (\{.*\})$", block.source, re.MULTILINE)
    promised = ast.literal_eval(comment)
    assert list(results) == list(promised)
    for name, value in promised.items():
        assert value is ... or results[name] == value


# Quick start

QUICK_START = """
saved = []

def fetch_data():
    return [1, 2, 3]

def process(data):
    return [number * 2 for number in data]

def save_to_db(data):
    saved.append(data)

"""


@covers("flowkit.md", "Option 1: DAG API (Operator-based)")
@covers("flowkit.md", "Option 2: Flow API (Keras-style)")
def quick_start(block: Block, bench: Bench) -> None:
    results = printed(
        bench.run(
            QUICK_START
            + source_of(block)
            + "assert saved == [[2, 4, 6]] and extract.retries == 3\n"
        )
    )
    assert_as_commented(results, block)
    assert results == {"extract": [1, 2, 3], "transform": [2, 4, 6], "load": "Success"}
    run = bench.completed("my_pipeline", ["extract", "transform", "load"])
    assert upstream(run) == [("extract", []), ("transform", [0]), ("load", [1])]


# Core concepts


@covers("flowkit.md", "Tasks")
def a_task(block: Block, bench: Bench) -> None:
    bench.run("result = 41\n\n" + source_of(block) + """
from perfect.flowkit import Flow

assert my_task("by itself") == my_task.run("by itself") == 41

@task()
def first():
    return "input"

assert Flow("One task").add(first).add(my_task).run() == {"first": "input", "my_task": 41}
""")
    assert upstream(bench.completed("One task", ["first", "my_task"])) == [
        ("first", []),
        ("my_task", [0]),
    ]


@covers("flowkit.md", "Task Parameters")
def task_parameters(block: Block, bench: Bench) -> None:
    described = text_between("flowkit.md", "#### Task Parameters", "```")
    defaults = dict(re.findall(r"^- \*\*(\w+)\*\* .*\(default: (.+)\)$", described, re.MULTILINE))
    assert defaults == {"retries": "0", "delay": "1.0", "backoff": "2.0", "when": "None"}
    helpers = """
calls = []

def risky_operation():
    calls.append(1)
    if len(calls) in failing:
        raise OSError(f"call {len(calls)}")
    return "done"

"""
    checks = f"""
@task()
def plain():
    pass

for name, default in {defaults}.items():
    assert getattr(plain, name) == eval(default), name

failing = (1, 2, 3)
assert Flow("Recovers").add(robust_task).run() == {{"robust_task": "done"}}
failing = (5, 6, 7, 8)
try:
    Flow("Gives up").add(robust_task).run()
except Exception as error:
    assert (type(error).__name__, str(error.__cause__)) == ("TaskExecutionError", "call 8"), error
else:
    raise AssertionError("no error")
assert len(calls) == 8  # "will retry up to 3 times"
"""
    output = bench.run(CLOCK + NAMES + helpers + source_of(block) + checks + WAITED)
    run = bench.only("Recovers")
    (recovered,) = run["tasks"]
    assert (run["state"], recovered["state"], recovered["attempt"]) == ("COMPLETED", "COMPLETED", 4)
    (failed,) = bench.only("Gives up")["tasks"]
    assert (failed["state"], failed["attempt"]) == ("FAILED", 4)
    for task in (recovered, failed):
        assert_waits(task, [2, 4, 8])
    assert last_number(output) >= 0.899 * (14 + 14)


@covers("flowkit.md", "Pipeline Operators")
def operators(block: Block, bench: Bench) -> None:
    names = "task1 task2 task3 task4 extract transform validate enrich load notify".split()
    definition = "@task()\ndef {0}(*given):\n    return ('{0}', *given)\n\n"
    helpers = f"{NAMES}Task.clear_registry()\n" + "".join(map(definition.format, names))
    statements = block.source.strip().split("\n\n")
    titles = [statement.splitlines()[0] for statement in statements]
    assert [title.split()[1] for title in titles] == ["Linear", "Branching", "Merging", "Complex"]
    # One by one, each in a DAG of the tasks that it names.
    starts = ["task1", "task1", "task1", "extract"]
    dags = "".join(
        f"{helpers}{statement}\nprint(DAG({title!r}, tasks=[{start}]).run())\n"
        for statement, title, start in zip(statements, titles, starts, strict=True)
    )
    outputs = bench.run(dags).splitlines()
    linear, branching, merging, complex_one = map(ast.literal_eval, outputs)
    one, two = ("task1",), ("task2",)
    assert linear["task3"] == ("task3", ("task2", one))
    assert branching == {"task1": one} | {name: (name, one) for name in ("task2", "task3", "task4")}
    assert merging == {"task1": one, "task2": two, "task3": ("task3", one, two)}
    transformed = ("transform", ("extract",))
    loaded = ("load", ("validate", transformed), ("enrich", transformed))
    assert complex_one["notify"] == ("notify", loaded)
    branches = {
        "extract": [],
        "transform": ["extract"],
        "validate": ["transform"],
        "enrich": ["transform"],
        "load": ["validate", "enrich"],
        "notify": ["load"],
    }
    assert waits_for(bench.only(titles[3])) == branches

    # All together, as the block stands.
    results = printed(bench.run(f"{helpers}{source_of(block)}print(DAG('all').run())\n"))
    assert results["task3"] == ("task3", ("task2", one), one)
    tasks = {"task1": [], "task2": ["task1"], "task3": ["task2", "task1"], "task4": ["task1"]}
    assert waits_for(bench.only("all")) == tasks | branches


@covers("flowkit.md", "DAG Execution")
def dag_execution(block: Block, bench: Bench) -> None:
    thread = 'dag.run(executor="thread")  # or "process"'
    assert thread in block.source
    helpers = NAMES + """
import os

@task()
def first():
    return 1

@task()
def left(first):
    meet()
    return first + 1

@task()
def right(first):
    meet()
    return first + 2

@task()
def last(left, right):
    return (left, right, os.getpid())

first >> [left, right] >> last

def meet():
    pass
"""
    order = ["first", "left", "right", "last"]
    waits = [("first", []), ("left", [0]), ("right", [0]), ("last", [1, 2])]
    meeting = MEETING.format(count=2) + "\ndef meet():\n    meeting.wait()\n"
    check = "\nassert (results['last'][2] == os.getpid()) is {same}, results\nprint(results['last'][:2])\n"
    output = bench.run(helpers + meeting + source_of(block) + check.format(same=True))
    assert output == "(2, 3)\n"
    assert upstream(bench.completed("my_workflow", order)) == waits

    fresh = Bench(bench.url, bench.folder)
    source = source_of(block).replace(thread, 'dag.run(executor="process")')
    assert fresh.run(helpers + source + check.format(same=False)) == "(2, 3)\n"
    assert upstream(fresh.completed("my_workflow", order)) == waits


@covers("flowkit.md", "Keras-Style Flow API")
def keras_style(block: Block, bench: Bench) -> None:
    assert printed(bench.run(source_of(block) + "print(results)\n")) == {
        "fetch_user": {"id": 1, "name": "Alice"},
        "fetch_orders": ["order1", "order2"],
        "fetch_recommendations": ["item1", "item2"],
        "combine": {
            "user": {"id": 1, "name": "Alice"},
            "orders": ["order1", "order2"],
            "recommendations": ["item1", "item2"],
        },
    }
    order = ["fetch_user", "fetch_orders", "fetch_recommendations", "combine"]
    waits = dict(upstream(bench.completed("user_pipeline", order)))
    assert {name: sorted(before) for name, before in waits.items()} == {
        "fetch_user": [],
        "fetch_orders": [0],
        "fetch_recommendations": [0],
        "combine": [0, 1, 2],
    }


# Advanced features


@covers("flowkit.md", "Retry Logic")
def retry_logic(block: Block, bench: Bench) -> None:
    promised = text_between("flowkit.md", "Retry delays: ", "\n")
    assert promised.endswith("(with random jitter)")
    delays = [float(second) for second in re.findall(r"(\d+)s", promised)]
    assert delays == [1, 2, 4, 8, 16]
    output = bench.run(
        CLOCK
        + NAMES
        + """
from types import SimpleNamespace

class Answer:
    def __init__(self, status):
        self.status = status

    def raise_for_status(self):
        if self.status >= 500:
            raise OSError(f"status {self.status}")

    def json(self):
        return {"status": self.status}

answers = iter([500, 501, 502, 503, 504, 200])
requests = SimpleNamespace(get=lambda url: Answer(next(answers)))

"""
        + source_of(block)
        + 'assert DAG("retries").run() == {"flaky_api_call": {"status": 200}}\n'
        + WAITED
    )
    assert last_number(output) >= 0.899 * sum(delays)
    (task,) = bench.only("retries")["tasks"]
    assert (task["state"], task["attempt"]) == ("COMPLETED", 6)
    assert [one["error"]["message"] for one in task["attempts"]] == [
        f"status {status}" for status in range(500, 505)
    ]
    assert_waits(task, delays)


@covers("flowkit.md", "Conditional Execution")
def conditional_execution(block: Block, bench: Bench) -> None:
    order = ["check_data", "handle_large_data", "handle_small_data"]
    for metric, name, skipped, done in (
        ("1500", "large", "handle_small_data", "handle_large_data"),
        ("1000", "small", "handle_large_data", "handle_small_data"),
    ):
        source = source_of(block).replace("return 1500", f"return {metric}")
        results = printed(bench.run(f"{NAMES}{source}print(DAG({name!r}).run())\n"))
        assert results == {
            "check_data": int(metric),
            done: f"Processing {name} dataset: {metric}",
        }
        run = bench.only(name)
        assert (run["state"], run["progress"]) == ("COMPLETED", 100)
        assert upstream(run) == list(zip(order, ([], [0], [0])))
        assert states(run) == {"check_data": "COMPLETED", done: "COMPLETED", skipped: "SKIPPED"}


@covers("flowkit.md", "Branching and Merging")
def branching_and_merging(block: Block, bench: Bench) -> None:
    helpers = (
        "def get_raw_data():\n    return 'raw'\n\n"
        "def combine_results(*results):\n    return ' '.join(results)\n\n"
    ) + "".join(f"def process_method_{x}(data):\n    return data + '-{x}'\n\n" for x in "abc")
    results = printed(
        bench.run(NAMES + helpers + source_of(block) + 'print(DAG("branches").run())\n')
    )
    assert results == {
        "fetch_data": "raw",
        "process_a": "raw-a",
        "process_b": "raw-b",
        "process_c": "raw-c",
        "aggregate": "raw-a raw-b raw-c",
    }
    order = ["fetch_data", "process_a", "process_b", "process_c", "aggregate"]
    run = bench.completed("branches", order)
    assert upstream(run) == list(zip(order, ([], [0], [0], [0], [0, 1, 2, 3])))


@covers("flowkit.md", "Structured Logging")
def structured_logging(block: Block, bench: Bench) -> None:
    sample = text_between("flowkit.md", "14:30:05", "```").splitlines()
    parts = [re.fullmatch(r"(\d\d):(\d\d):(\d\d)  \[(\w+)\] (.+)", line) for line in sample]
    lines = [line.groups() for line in parts if line]
    assert len(lines) == len(sample) == 9
    described = text_between("flowkit.md", "**Available Log Levels:**", "###")
    colours = dict(re.findall(r"`LogLevel\.(\w+)` - .* \((\w+)\)", described))
    assert re.findall(r"`LogLevel\.(\w+)`", described) == [*("DEBUG", *colours)]
    numbers = {"blue": 34, "yellow": 33, "red": 31, "green": 32, "magenta": 35}  # ECMA-48
    log_sample = (
        """
import logging, os, time
from perfect.flowkit import DAG, Task, get_logger, task

os.environ["TZ"] = "UTC"
time.tzset()
usual = logging.getLogRecordFactory()

def at_its_time(*args, **kwargs):
    record = usual(*args, **kwargs)
    record.created = moment
    return record

"""
        + f"""
logging.setLogRecordFactory(at_its_time)
levels = {{LogLevel(level).name: LogLevel(level) for level in LogLevel}} | {{"WARN": LogLevel.WARNING}}
for hours, minutes, seconds, level, text in {lines!r}:
    moment = 3600 * int(hours) + 60 * int(minutes) + int(seconds)
    get_logger().log(levels[level], text)
get_logger().error("red")
get_logger().debug("dim")
logging.setLogRecordFactory(usual)

@task(name="Fetch Data (API)")
def fetch():
    get_logger("api").info("Received %s records.", "14,502")

DAG("logged").run()
"""
    )
    imports, coloured, as_json = map(ast.unparse, ast.parse(source_of(block)).body)
    assert "use_colors=True" in coloured and "json_output=True" in as_json

    def painted(tag: str) -> str:
        return f"\x1b[{numbers[colours[{'WARN': 'WARNING'}.get(tag, tag)]]}m[{tag}]\x1b[0m"

    shown = bench.run(f"{imports}\n{coloured}\n{log_sample}").splitlines()
    assert shown[:9] == [f"{h}:{m}:{s}  {painted(tag)} {text}" for h, m, s, tag, text in lines]
    assert shown[9] == f"14:31:10  {painted('ERROR')} red"  # INFO: "dim" is not shown
    # A pipeline tells of its tasks by itself.
    assert [line.split("  ", 1)[1] for line in shown[10:]] == [
        f'{painted("INFO")} Starting task "Fetch Data (API)"...',
        f"{painted('INFO')} Received 14,502 records.",
        f'{painted("SUCCESS")} Task "Fetch Data (API)" completed successfully.',
        f"{painted('SYSTEM')} Worker released.",
    ]
    run = bench.completed("logged", ["Fetch Data (API)"])
    assert "Received 14,502 records." in logged(run)

    # "Colored (default)": on a terminal; here there is none.
    by_default = coloured.replace(", use_colors=True", "")
    assert bench.run(f"{imports}\n{by_default}\n{log_sample}").splitlines()[:9] == sample

    output = [json.loads(line) for line in bench.run(source_of(block) + log_sample).splitlines()]
    names = [{"WARN": "WARNING"}.get(tag, tag) for *_, tag, _ in lines]
    assert [line["level"] for line in output[:11]] == [*names, "ERROR", "DEBUG"]
    assert [line["message"] for line in output[:9]] == [text for *_, text in lines]
    assert output[0]["time"].startswith("1970-01-01T14:30:05.")
    assert [line["level"] for line in output[11:]] == ["INFO", "INFO", "SUCCESS", "SYSTEM"]


@covers("flowkit.md", "State Persistence")
def state_persistence(block: Block, bench: Bench) -> None:
    bench.run('data = {"rows": [1, 2]}\n' + source_of(block) + """
assert cached == {"rows": [1, 2]}

import time
assert StateManager(".flowkit/state.json").get("task_result") == data
for passed, there in ((3000, True), (3700, False)):  # s; ttl=3600
    later = StateManager(".flowkit/state.json", clock=lambda: time.time() + passed)
    assert later.has("task_result") is there, passed
""")
    assert (bench.folder / ".flowkit" / "state.json").stat().st_mode & 0o777 == 0o600
    # Another process finds it, and a failed workflow goes on where it stopped.
    resumable = NAMES + """
import os
state = StateManager(storage_path=".flowkit/state.json", default_ttl=3600)
assert state.get("task_result") == {"rows": [1, 2]}

@task()
def extract():
    print("extracting")
    return [1, 2]

@task()
def load(extract):
    if os.environ["DATABASE"] == "down":
        raise OSError("the database is down")
    return len(extract)

extract >> load
try:
    print(DAG("resumable").run(resume=state))
except Exception as error:
    print(f"{type(error).__name__}: {error.__cause__}")
"""
    assert bench.run(resumable, DATABASE="down").splitlines() == [
        "extracting",
        "TaskExecutionError: the database is down",
    ]
    assert bench.run(resumable, DATABASE="up").splitlines() == ["{'extract': [1, 2], 'load': 2}"]
    second, first = bench.runs("resumable")
    assert states(first) == {"extract": "COMPLETED", "load": "FAILED"}
    assert (second["state"], states(second)["load"]) == ("COMPLETED", "COMPLETED")


# Complete examples


@covers("flowkit.md", "ETL Pipeline")
def etl_pipeline(block: Block, bench: Bench) -> None:
    bench.run(
        """
from datetime import datetime
from types import SimpleNamespace

tables, mails, asked = [], [], []

class Answer:
    def json(self):
        return [{"id": 1, "value": 10}, {"id": 2, "value": 20}]

def get(url):
    asked.append(url)
    if len(asked) == 1:
        raise OSError("no answer")  # tried again, retries=3
    return Answer()

requests = SimpleNamespace(get=get)
db = SimpleNamespace(bulk_insert=tables.append)
send_email = mails.append
"""
        + CLOCK
        + source_of(block)
        + """
rows = results.pop("transform_data")
assert [(row["id"], row["value"]) for row in rows] == [(1, 20), (2, 40)]
assert all(isinstance(row["timestamp"], datetime) for row in rows)
assert results == {
    "extract_from_api": [{"id": 1, "value": 10}, {"id": 2, "value": 20}],
    "load_to_database": "Loaded 2 records",
    "send_notification": "Notification sent",
}, results
assert tables == [rows] and mails == ["ETL completed: Loaded 2 records"]
assert asked == ["https://api.example.com/data"] * 2
"""
    )
    order = ["extract_from_api", "transform_data", "load_to_database", "send_notification"]
    run = bench.completed("etl_pipeline", order)
    assert upstream(run) == list(zip(order, ([], [0], [1], [2])))
    assert [task["attempt"] for task in run["tasks"]] == [2, 1, 1, 1]


@covers("flowkit.md", "Approval Workflow")
def approval(block: Block, bench: Bench) -> None:
    for size, done, skipped, words, approval in (
        (1001, "require_manual_approval", "auto_approve", "Large {} manual approval required", "MANUAL_APPROVAL"),
        (1000, "auto_approve", "require_manual_approval", "Small {} auto-approved", "AUTO_APPROVED"),
    ):  # fmt: skip
        fresh = Bench(bench.url, bench.folder)
        helper = f"def fetch_data_size():\n    return {size}\n\n"
        output = fresh.run(helper + source_of(block) + "print(results)\n").splitlines()
        said = words.format(f"dataset ({2 * size}) -")
        assert output[:2] == [said, f"Loading {2 * size} with {approval}"]
        assert ast.literal_eval(output[2]) == {
            "extract": size,
            "transform": 2 * size,
            done: approval,
            "load": f"LOADED_{approval}",
        }
        run = fresh.only("approval_workflow")
        assert run["state"] == "COMPLETED"
        assert upstream(run) == [
            ("extract", []),
            ("transform", [0]),
            ("require_manual_approval", [1]),
            ("auto_approve", [1]),
            ("load", [1, 2, 3]),
        ]
        assert states(run).pop(skipped) == "SKIPPED"
        assert list(states(run).values()).count("COMPLETED") == 4
        assert said in logged(run)


@covers("flowkit.md", "Parallel Processing")
def parallel_processing(block: Block, bench: Bench) -> None:
    # max_workers=3: the three batches meet.
    source = source_of(block).replace("    return sum(", "    meeting.wait()\n    return sum(")
    results = printed(
        bench.run(
            MEETING.format(count=3) + source + "results['fetch_data'] = None\nprint(results)\n"
        )
    )
    batches = [sum(range(333)), sum(range(333, 666)), sum(range(666, 1000))]
    assert [results[f"process_batch_{n}"] for n in (1, 2, 3)] == batches
    assert results["aggregate_results"] == f"Total: {sum(range(1000))}" == "Total: 499500"
    order = ["fetch_data", *(f"process_batch_{n}" for n in (1, 2, 3)), "aggregate_results"]
    run = bench.completed("parallel_processing", order)
    assert upstream(run) == list(zip(order, ([], [0], [0], [0], [0, 1, 2, 3])))


# Signatures

VOCABULARY = {
    **{name: getattr(typing, name) for name in ("Any", "Callable", "Dict", "Optional", "Self")},
    **{"Unpack": typing.Unpack, "timedelta": datetime.timedelta, "os": os, "State": State},
    **{name: getattr(flowkit, name) for name in flowkit.__all__},
}


@covers("flowkit.md", "Task")
@covers("flowkit.md", "@task Decorator")
@covers("flowkit.md", "DAG")
@covers("flowkit.md", "Flow")
@covers("flowkit.md", "StateManager")
@covers("flowkit.md", "Logging")
def api_reference(block: Block, bench: Bench) -> None:
    imports, _, rest = block.source.rpartition("import configure_logging, LogLevel\n")
    found = signatures(rest)
    assert len(found) == len(re.findall(r"(?m)^ *(?:def )?\w+\($|\bdef ", rest)) > 0
    for dotted, documented in found:
        actual: Any = flowkit
        for part in dotted.split("."):
            actual = getattr(actual, part)
        assert_signature(actual, documented, VOCABULARY)


def test_every_block_has_a_case_and_every_case_a_block() -> None:
    CASES.check_complete()


@pytest.mark.e2e
@pytest.mark.parametrize(("document", "block"), CASES.blocks, ids=CASES.ids)
def test_block(document: str, block: Block, backend: Any, tmp_path: Path) -> None:
    CASES.run(document, block, Bench(backend.url, tmp_path))
