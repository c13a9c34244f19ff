"""What the tests with real processes share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.backend import BackendProcess
from tests.support.processes import Script, free_port


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
