"""Clients' programs for one test each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line


def ended(backend: BackendProcess, folder: Path, text: str, *arguments: int, timeout: float) -> str:
    """The id of a run that a program made."""
    script = Script(folder / "program.py", text, backend_url=backend.url)
    done = script.run(*arguments, timeout=timeout)
    assert done.returncode == 0, done.stderr[-2000:]
    run: str = backend.wait_for_run(timeout=timeout)["id"]
    return run


@contextmanager
def going_on(
    backend: BackendProcess, folder: Path, text: str, count: int
) -> Iterator[tuple[str, Any]]:
    """A run that has said its first line; the process goes on when it is told."""
    script = Script(folder / "program.py", text, backend_url=backend.url)
    with script.started(count) as process:
        await_line(process, "running")
        await_line(process, "1 is the first")
        run = backend.wait_for_run(lambda run: run["state"] == "RUNNING")["id"]
        yield run, process
