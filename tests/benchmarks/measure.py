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
from time import perf_counter, sleep

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


def task_loop(calls: int) -> Callable[[], float]:
    """A flow that calls a task so many times; it gives the seconds that it took."""
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
    flow = task_loop(calls)
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
    flow = task_loop(calls)
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


def _printing(lines: int, two: bool) -> Callable[[], float]:
    def print_all() -> float:
        began = perf_counter()
        if two:
            for number in range(lines):
                print("line", number)
        else:
            for _ in range(lines):
                print("a line of text")
        return perf_counter() - began

    return print_all


def measure_print(lines: int, repeats: int = REPEATS) -> list[Figure]:
    """µs of a print to a file, captured and not: in mock mode and live, of one argument and of two."""
    figures = []
    former = sys.stdout
    with tempfile.TemporaryFile("w") as file:
        sys.stdout = file
        try:
            for two in (False, True):
                print_all = _printing(lines, two)
                one = sdk.task(name="print")(print_all)
                flow = sdk.flow(name="printing")(lambda one=one: one())
                control = min(print_all() for _ in range(repeats))
                mocked = []
                for _ in range(repeats):
                    with mock():
                        gc.collect()
                        mocked.append(flow())
                live = []
                with live_backend():
                    for _ in range(repeats):
                        live.append(flow())
                        assert sessions.get_session().flush(300)
                what = "2 arguments, 4 writes" if two else "1 argument"
                for mode, took in (("mock", min(mocked)), ("live", min(live))):
                    name = f"captured print ({what}), {mode}"
                    figures.append(Figure(name, "µs", control / lines * 1e6, took / lines * 1e6))
        finally:
            sys.stdout = former
    return figures


_MEMORY_SCRIPT = """
import sys
from perfect import configure, flow, task
from perfect import session

def peak():  # not getrusage's: that one begins with what the parent had
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024

configure(backend_url=sys.argv[1], home=sys.argv[2])

@task
def one(number):
    return number

@flow
def many(calls):
    for number in range(calls):
        one(number)

many(1000)
session.get_session().flush(60)
before = peak()
for _ in range(int(sys.argv[3]) // 10000):
    many(10000)
many(int(sys.argv[3]) % 10000)
session.get_session().flush(300)
print(before, peak())
"""


def measure_memory(calls: int) -> Figure:
    """MiB of a client process at its peak: after 1,000 tasks (the control), and after many more."""
    with tempfile.TemporaryDirectory() as folder, BackendProcess(Path(folder)) as backend:
        done = subprocess.run(
            [sys.executable, "-c", _MEMORY_SCRIPT, backend.url, folder, str(calls)],
            check=True,
            capture_output=True,
            text=True,
        )
    before, after = (float(text) for text in done.stdout.split())
    return Figure(f"memory of a client, {calls:,} tasks live", "MiB", before, after)


_IDLE_SCRIPT = """
import sys
from perfect import configure, flow, listen

configure(backend_url=sys.argv[1], home=sys.argv[2])

@flow
def waiting():
    pass

print("ready", flush=True)
listen()
"""


def measure_idle(seconds: float) -> list[Figure]:
    """What an idle worker takes: % of a core, and how often it wakes (switches per s)."""
    with tempfile.TemporaryDirectory() as folder, BackendProcess(Path(folder)) as backend:
        command = [sys.executable, "-c", _IDLE_SCRIPT, backend.url, folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            worker.stdout.readline()
            sleep(2)  # it connects and registers meanwhile: what is measured is the time after that
            ticks, switches = _usage(worker.pid)
            sleep(seconds)
            more_ticks, more_switches = _usage(worker.pid)
            worker.terminate()
    share = (more_ticks - ticks) / os.sysconf("SC_CLK_TCK") / seconds * 100
    return [
        Figure("idle worker, share of a core", "%", 0.0, share),
        Figure("idle worker, wake-ups per second", "/s", 0.0, (more_switches - switches) / seconds),
    ]


def _usage(pid: int) -> tuple[int, int]:
    """CPU ticks and context switches of a process so far, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    switches = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if "ctxt_switches" in line:
                switches += int(line.split()[1])
    return int(fields[11]) + int(fields[12]), switches


def measure_all(calls: int, lines: int, idle: float) -> list[Figure]:
    """Every figure, at a size; the idle worker is watched for so many s."""
    return [
        measure_import(),
        measure_mock_call(calls),
        *measure_live_call(calls),
        *measure_print(lines),
        measure_memory(calls),
        *measure_idle(idle),
    ]


def table(figures: list[Figure]) -> str:
    """The figures as a table of text."""
    rows = [f"{'':46} {'control':>10} {'measured':>10} {'over':>10} {'ratio':>7}"]
    for figure in figures:
        rows.append(
            f"{figure.name:46} {figure.control:8.2f} {figure.unit} {figure.measured:7.2f} {figure.unit}"
            f" {figure.over:7.2f} {figure.unit} {figure.ratio:6.1f}×"
        )
    rows.append(f"({os.cpu_count()} cores, Python {sys.version.split()[0]}; least of the repeats)")
    return "\n".join(rows)
