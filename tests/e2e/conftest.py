"""What the tests with real processes share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import BackendProcess
from tests.support.processes import Script, free_port


@pytest.fixture
def figures(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Callable[..., None]:
    """Print a test's figures past the capture: what was done, and how long the test took."""
    began = time.monotonic()

    def say(**values: Any) -> None:
        values["seconds"] = time.monotonic() - began
        shown = ", ".join(
            f"{name.replace('_', ' ')} {round(value, 3) if isinstance(value, float) else value}"
            for name, value in values.items()
        )
        with capsys.disabled():
            print(f"\n    {request.node.name}: {shown}", flush=True)

    return say


@pytest.fixture
def absent(tmp_path: Path) -> BackendProcess:
    """A backend that is not started yet, but has its port; the test starts it with ``with``."""
    backend = BackendProcess(tmp_path / "backend", port=free_port())
    backend.url = f"http://127.0.0.1:{backend.port}"
    return backend


@pytest.fixture
def write_script(tmp_path: Path) -> Callable[..., Script]:
    """Write a program of a user: (name, text, **settings)."""

    def write(name: str, text: str, **environment: str) -> Script:
        return Script(tmp_path / f"{name}.py", text, **environment)

    return write
