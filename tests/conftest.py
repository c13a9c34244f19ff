"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perfect import context
from perfect import session as sessions
from perfect.definitions import get_registry
from tests.support.backend import BackendProcess
from tests.support.postgres import PostgresServer, programs

# Under .ci/run every means is installed, so a test that skips for the lack of one is a failure.
IN_CI = os.environ.get("PERFECT_TESTS_REQUIRE_ALL") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {report.longrepr}"
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Full-size load and fault tests run only when asked for with ``-m soak``."""
    if "soak" in (config.option.markexpr or ""):
        return
    kept = [item for item in items if "soak" not in item.keywords]
    config.hook.pytest_deselected(items=[item for item in items if "soak" in item.keywords])
    items[:] = kept


@pytest.fixture(autouse=True)
def own_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Each test has a client of its own: no settings, no session, no flows from another."""
    for name in [name for name in os.environ if name.startswith("PERFECT_")]:
        if name != "PERFECT_TESTS_REQUIRE_ALL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("PERFECT_HOME", str(tmp_path / "home"))
    # Nothing listens there: a flow that is not told of a backend must not find a developer's.
    monkeypatch.setenv("PERFECT_BACKEND_URL", "http://127.0.0.1:9")
    registry = get_registry()
    flows, tasks = dict(registry.flows), dict(registry.tasks)
    yield
    sessions.reset(forget=True)
    assert not context._active, "a run goes on after its test"
    registry.clear()
    registry.flows.update(flows)
    registry.tasks.update(tasks)


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


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    """One real backend process, shared by the tests that leave it running."""
    with BackendProcess(tmp_path_factory.mktemp("backend")) as process:
        yield process


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private PostgreSQL server."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def own_backend(tmp_path: Path) -> Iterator[BackendProcess]:
    """A real backend process for one test, to be killed and started again."""
    folder = tmp_path / "backend"
    folder.mkdir()
    with BackendProcess(folder) as process:
        yield process
    shutil.rmtree(folder, ignore_errors=True)
