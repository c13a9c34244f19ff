"""Documents whose Python blocks are run as scripts: the blocks, their cases, and the bench that runs them."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import perfect
from tests.documents import HERE
from tests.support.markdown import Block, python_blocks

SOURCE_ROOT = Path(perfect.__file__).parents[1]


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

    def trigger(self, flow_id: str, **asked: Any) -> str:
        """Ask for an execution of the flow and return its run's id."""
        body = json.dumps({"configuration": "development", **asked}).encode()
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

    def only(self, flow_name: str) -> dict[str, Any]:
        """The flow's one run, with the earlier attempts of its tasks."""
        (run,) = self.runs(flow_name)
        found: dict[str, Any] = self.get(f"/api/runs/{run['id']}")
        return found

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


def text_between(document: str, start: str, end: str) -> str:
    """The text of a document from the first place where `start` stands to the next `end`."""
    text = (HERE / document).read_text(encoding="utf-8")
    return text[text.index(start) : text.index(end, text.index(start))]


Case = Callable[[Block, Bench], None]


class Cases:
    """The Python blocks of some documents, and the function that tests each.

    Args:
        documents: names of files in tests/documents.

    Attributes:
        blocks: (document, block), in order.
        ids: the same as ``document:line``.
    """

    def __init__(self, *documents: str) -> None:
        self.documents = documents
        self.blocks = [
            (document, block) for document in documents for block in python_blocks(HERE / document)
        ]
        self.ids = [f"{document}:{block.line}" for document, block in self.blocks]
        self._cases: dict[tuple[str, str, int], Case] = {}

    def covers(self, document: str, heading: str, number: int = 1) -> Callable[[Case], Case]:
        """Make a function the case of a block."""

        def add(case: Case) -> Case:
            assert (document, heading, number) not in self._cases
            self._cases[document, heading, number] = case
            return case

        return add

    def check_complete(self) -> None:
        """Assert that every block has a case and every case a block."""
        places = {(document, block.heading, block.number) for document, block in self.blocks}
        assert places == self._cases.keys()

    def run(self, document: str, block: Block, bench: Bench) -> None:
        """Test a block."""
        case = self._cases.get((document, block.heading, block.number))
        assert case, f"{document}:{block.line} has no case"
        case(block, bench)


# For scripts that wait: pauses pass at once, and the clock that they are measured by goes on by them.
CLOCK = """
import time

class Clock:
    passed = 0.0
    monotonic = staticmethod(time.monotonic)

    @classmethod
    def sleep(cls, seconds):
        cls.passed += seconds

time.monotonic = lambda: Clock.monotonic() + Clock.passed
time.sleep = Clock.sleep
begun = time.monotonic()
"""
# What such a script has waited in all, to be printed last.
WAITED = "print(time.monotonic() - begun)\n"


def pauses_of(task: dict[str, Any]) -> list[float]:
    """The s that a task run has waited after each failed attempt, as they are told (3 digits)."""
    told = [
        re.search(r"the next follows in ([\d.e+]+) s$", one["reason"]) for one in task["attempts"]
    ]
    assert all(told), task["attempts"]
    return [float(found[1]) for found in told if found]


def upstream(run: dict[str, Any]) -> list[tuple[str, list[int]]]:
    """The tasks of a run with the indices of those that they wait for."""
    return [(task["taskName"], task["upstream"]) for task in run["tasks"]]


def last_number(output: str) -> float:
    """The number that a script has printed last."""
    return float(output.split()[-1])


def assert_waits(task: dict[str, Any], nominal: list[float]) -> None:
    """Assert that a task run has waited as long as documented, give or take the jitter of a tenth."""
    pauses = pauses_of(task)
    assert len(pauses) == len(nominal), pauses
    for pause, about in zip(pauses, nominal):
        assert 0.899 * about <= pause <= 1.101 * about, pauses
    assert pauses != nominal, "no jitter"


def states(run: dict[str, Any]) -> dict[str, str]:
    return {task["taskName"]: task["state"] for task in run["tasks"]}


def printed(output: str) -> dict[str, Any]:
    """The results that a script has printed last, as a dictionary."""
    found: dict[str, Any] = ast.literal_eval(output.strip().splitlines()[-1])
    return found


def waits_for(run: dict[str, Any]) -> dict[str, list[str]]:
    """The tasks of a run, which must be COMPLETED, with the names of those that they wait for."""
    names = [task["taskName"] for task in run["tasks"]]
    assert_completed(run, names)
    return {task["taskName"]: [names[i] for i in task["upstream"]] for task in run["tasks"]}
