"""What the client costs, each figure beside a plain Python control measured in the same run.

``python -m tests.benchmarks`` prints the table at full size.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from perfect import sdk
from perfect import session as sessions
from perfect.testing import mock
from tests.support.backend import BackendProcess

REPEATS = 5


@dataclass
class Figure:
    """One measurement: the least of several repeats, as is usual where noise only ever adds.

    Attributes:
        control, measured: in `unit`, per `per`.
    """

    name: str
    unit: str
    control: float
    measured: float

    @property
    def over(self) -> float:
        """What it costs beyond the control, in `unit`."""
        return self.measured - self.control

    @property
    def ratio(self) -> float:
        """How many times the control it takes."""
        return self.measured / self.control if self.control else float("inf")


def add_one(number: int) -> int:
    """The work of the benchmarked task: as little as possible."""
    return number + 1


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes, with the garbage of earlier ones gone."""
    gc.collect()
    began = perf_counter()
    action()
    return perf_counter() - began


def measure_import(repeats: int = REPEATS) -> Figure:
    """ms of a whole interpreter that imports the decorators, beside one that does nothing."""

    def whole_process(code: str) -> float:
        command = [sys.executable, "-c", code]
        return min(timed(lambda: subprocess.run(command, check=True)) for _ in range(repeats))

    whole_process("from perfect import task, flow")  # byte code is cached from here on
    return Figure(
        "import task, flow (whole process)",
        "ms",
        whole_process("pass") * 1e3,
        whole_process("from perfect import task, flow") * 1e3,
    )


def _plain_loop(calls: int) -> float:
    def loop() -> None:
        for number in range(calls):
            add_one(number)

    return min(timed(loop) for _ in range(3)) / calls * 1e6


def _task_loop(calls: int) -> Callable[[], float]:
    one = sdk.task(add_one)

    @sdk.flow(name="benchmark")
    def flow() -> float:
        began = perf_counter()
        for number in range(calls):
            one(number)
        return perf_counter() - began

    return flow


def measure_mock_call(calls: int, repeats: int = REPEATS) -> Figure:
    """µs of a task call in mock mode, beside a plain call."""
    flow = _task_loop(calls)
    took = []
    for _ in range(repeats):
        with mock():
            gc.collect()
            took.append(flow())
    return Figure("task call, mock", "µs", _plain_loop(calls), min(took) / calls * 1e6)


@contextmanager
def live_backend() -> Iterator[BackendProcess]:
    """A backend of its own, and a client that reports to it."""
    with tempfile.TemporaryDirectory() as folder, BackendProcess(Path(folder)) as backend:
        with sessions.temporary(backend_url=backend.url, home=folder, mock=False) as session:
            session.connect(10)
            yield backend


def measure_live_call(calls: int) -> list[Figure]:
    """µs per task with a live backend: as the flow sees it, and until the last one is committed."""
    flow = _task_loop(calls)
    with live_backend():
        began = perf_counter()
        seen = flow()
        assert sessions.get_session().flush(300)
        committed = perf_counter() - began
    control = _plain_loop(calls)
    return [
        Figure("task call, live, as the flow sees it", "µs", control, seen / calls * 1e6),
        Figure("task, live, until committed", "µs", control, committed / calls * 1e6),
    ]


def measure_print(lines: int) -> list[Figure]:
    """µs of a print to a file, captured and not: in mock mode and live."""

    def print_all() -> float:
        began = perf_counter()
        for number in range(lines):
            print("line", number)
        return perf_counter() - began

    task = sdk.task(name="print")(print_all)
    flow = sdk.flow(name="printing")(lambda: task())
    former = sys.stdout
    with tempfile.TemporaryFile("w") as file:
        sys.stdout = file
        try:
            control = print_all()
            with mock():
                mocked = flow()
            with live_backend():
                live = flow()
                sessions.get_session().flush(300)
        finally:
            sys.stdout = former
    scale = 1e6 / lines
    return [
        Figure("captured print, mock", "µs", control * scale, mocked * scale),
        Figure("captured print, live", "µs", control * scale, live * scale),
    ]


def measure_all(calls: int, lines: int) -> list[Figure]:
    """Every figure, at a size."""
    return [
        measure_import(),
        measure_mock_call(calls),
        *measure_live_call(calls),
        *measure_print(lines),
    ]


def table(figures: list[Figure]) -> str:
    """The figures as a table of text."""
    rows = [f"{'':40} {'control':>10} {'measured':>10} {'over':>10} {'ratio':>7}"]
    for figure in figures:
        rows.append(
            f"{figure.name:40} {figure.control:8.2f} {figure.unit} {figure.measured:7.2f} {figure.unit}"
            f" {figure.over:7.2f} {figure.unit} {figure.ratio:6.1f}×"
        )
    rows.append(f"({os.cpu_count()} cores, Python {sys.version.split()[0]}; least of the repeats)")
    return "\n".join(rows)
