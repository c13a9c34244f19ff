"""Child processes of tests, which never outlive the test that started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def python(
    *arguments: str, env: dict[str, str] | None = None, stdin: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A Python process in development mode, with its output piped; killed if the block fails."""
    with subprocess.Popen(
        [sys.executable, "-X", "dev", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def children_of(pid: int) -> list[int]:
    """The processes that one has started and that are still there, zombies too."""
    # Not from /proc/*/task/*/children, which leaves some out while others of them end (proc(5)).
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found.append(int(stat.parent.name))
    return found


class Script:
    """A program of a user, as a file, to be run by processes of their own.

    Args:
        path: where it is written.
        text: its lines, after the imports that all of them have.
        environment: beside this process's; ``backend_url="…"`` stands for PERFECT_BACKEND_URL.
    """

    HEAD = (
        "import os, signal, sys, threading, time\n"
        "from perfect import TaskResult, configure, connect, flow, listen, task\n"
    )

    def __init__(self, path: Path, text: str, **environment: str) -> None:
        self.path = path
        self.environment = {f"PERFECT_{k.upper()}": str(v) for k, v in environment.items()}
        path.write_text(self.HEAD + textwrap.dedent(text))

    @contextmanager
    def started(self, *arguments: Any, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """A process of it, with all three streams piped; killed at the end of the block."""
        more = {f"PERFECT_{k.upper()}": str(v) for k, v in environment.items()}
        with python(
            *("-W", "error", "-u", str(self.path), *map(str, arguments)),
            env={**os.environ, **self.environment, **more},
            stdin=subprocess.PIPE,
        ) as process:
            yield process

    def run(
        self, *arguments: Any, timeout: float = 60, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """A process of it, awaited."""
        with self.started(*arguments, **environment) as process:
            out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def perfect_command(
    *arguments: str, timeout: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    """``perfect …``, awaited."""
    more = {f"PERFECT_{k.upper()}": str(v) for k, v in environment.items()}
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "perfect", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **more},
    )


def await_line(process: subprocess.Popen[str], wanted: str) -> str:
    """Read the process's output up to a line that begins so; the test's own timeout bounds it."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        if line.startswith(wanted):
            return line.rstrip("\n")
        seen.append(line)
    assert process.stderr is not None
    raise AssertionError(
        f"it ended without {wanted!r}: {seen[-5:]} {process.stderr.read()[-3000:]}"
    )


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Write a line to its standard input."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def poll_until(
    test: Callable[[], T], timeout: float = 20.0, every: float = 0.02, what: str = ""
) -> T:
    """Ask until the answer is true and return it: of another process there is no event to wait for."""
    deadline = time.monotonic() + timeout
    while True:
        answer = test()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or test}; at last {answer!r}")
        time.sleep(every)


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has taken effect."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def stop(process: subprocess.Popen[str]) -> None:
    """SIGSTOP, and wait until it stands still."""
    process.send_signal(signal.SIGSTOP)
    poll_until(lambda: is_stopped(process.pid), 5)


def catches(process: subprocess.Popen[str], number: int) -> bool:
    """Whether a process handles a signal itself (SigCgt of /proc)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)
