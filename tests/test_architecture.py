"""Imports point down; what is loaded late stands on a list; importing the client does nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import perfect

ROOT = Path(perfect.__file__).parent

# Each module may import those above it.
LAYERS = """
    errors states text scan about
    schedules settings signals context jsonable redaction outcomes plain
    canonical definitions failures statefile logs scalars
    fields
    kinds
    parameters
    bound store
    tasks
    caching options mapping wiring flows
    records attempts workers
    driving
    ticker events transport pool
    terminal
    capture spool
    threads forking api keeping backlog
    documented
    native
    reporting
    delivery
    heart listener
    session
    calls
    executor
    running
    graph graph.executors graph.node graph.parameter graph.triggers
    graph.arguments
    graph.graph graph.injection
    graph.executors.base graph.drawing graph.building
    graph.remote graph.executors.local graph.executors.thread graph.narration graph.resuming
    graph.away
    graph.executors.process graph.executors.dask_worker
    graph.executors.dask
    graph.judging graph.telling graph.results
    graph.ledger
    graph.elements
    graph.runner
    graph.definition
    graph.blueprint
    sdk core flowkit
    testing loading show typed
    demo timetable
    cli
    __main__
"""
RANK = {
    module: rank for rank, line in enumerate(LAYERS.strip().splitlines()) for module in line.split()
}
# Why: a module that only defines flows needs half of what running them needs; urllib, ssl, gzip and sqlite3
# cost 40 ms and are loaded at the first connection.
ALLOWED_LATE = {
    ("sdk", "perfect.running"),
    ("flows", "perfect.scan"),
    ("flows", "perfect.parameters"),  # once a flow is called or registered
    ("cli", "perfect.spool"),
    ("session", "perfect.api"),
    ("session", "perfect.delivery"),
    ("session", "perfect.heart"),
    ("session", "perfect.keeping"),
    ("session", "perfect.listener"),
    ("settings", "tomllib"),
    ("schedules", "zoneinfo"),  # most schedules are in UTC
    ("executor", "asyncio"),
    ("cli", "asyncio"),
    ("driving", "asyncio"),
    ("pool", "asyncio"),
    # Few tasks have options, few flows submit: each costs the import of what only they need.
    ("tasks", "perfect.options"),
    ("tasks", "perfect.driving"),
    ("tasks", "perfect.mapping"),
    ("bound", "perfect.mapping"),
    ("tasks", "perfect.pool"),
    ("tasks", "perfect.wiring"),
    ("options", "perfect.caching"),
    ("options", "perfect.store"),
    ("options", "perfect.settings"),
    *(("graph.executors.dask", module) for module in ("dask", "distributed")),
    *(("graph.executors.dask_worker", module) for module in ("distributed", "cloudpickle")),
    *(("graph.executors.dask_worker", module) for module in ("distributed", "cloudpickle")),
    ("flowkit", "perfect.graph.executors.process"),  # multiprocessing: 10 ms
    ("calls", "perfect.mapping"),
    ("calls", "perfect.pool"),
    ("cli", "perfect.demo"),
    ("cli", "perfect.server.serve"),  # an extra
    ("cli", "perfect.server.upkeep"),
    ("cli", "perfect.server.notify"),
}
# What the server may know of the rest.
OF_THE_SERVER = {"perfect.errors", "perfect.states", "perfect.schedules"}
SERVER_LAYERS = ("store", "engine", "reports", "routes")
CLIENT_PAYS_NOTHING_FOR = {"urllib.request", "ssl", "http.client", "sqlite3", "asyncio", "gzip"}


class Import(NamedTuple):
    """An import: of which module, which names of it, and whether inside a function."""

    module: str
    names: tuple[str, ...]
    late: bool
    line: int


def imports_of(path: Path) -> Iterator[Import]:
    def walk(node: ast.AST, late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue  # for types only: nothing is imported
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, (), late, child.lineno)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno} imports relatively"
                names = tuple(alias.name for alias in child.names)
                modules = []
                if child.module in ("perfect", "perfect.server"):
                    modules = [one for one in names if path_of(f"{child.module}.{one}") is not None]
                for name in modules:
                    yield Import(f"{child.module}.{name}", (), late, child.lineno)
                if len(modules) < len(names):
                    yield Import(child.module or "", names, late, child.lineno)
            inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from walk(child, late or inner)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


def path_of(module: str) -> Path | None:
    """The file of a module of ours, or None."""
    path = ROOT.joinpath(*module.split(".")[1:])
    for found in (path.with_suffix(".py"), path / "__init__.py"):
        if found.exists():
            return found
    return None


def name_of(path: Path) -> str:
    """``server.engine.book``; a package by its name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(server: bool) -> list[Path]:
    found = sorted(ROOT.rglob("*.py"))
    examples = ROOT / "_examples"
    return [
        path
        for path in found
        if (ROOT / "server" in path.parents) is server and examples not in path.parents
    ]


CLIENT = [path for path in sources(server=False) if path != ROOT / "__init__.py"]
SERVER = sources(server=True)


def test_every_module_has_its_place() -> None:
    assert {name_of(path) for path in CLIENT} == set(RANK)


@pytest.mark.parametrize("path", CLIENT, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    module = name_of(path)
    for found in imports_of(path):
        if found.module == "perfect":
            assert not set(found.names) & (
                set(perfect.__all__) - {"__version__"}
            ), f"{path}:{found.line} takes {found.names} from the root's re-exports"
        elif found.module.startswith("perfect."):
            imported = found.module.removeprefix("perfect.")
            if imported.split(".")[0] == "server":
                assert module == "cli" and found.late, f"{path}:{found.line}"
            else:
                # A late import may point up: it stands on the list below, with its reason.
                assert (
                    found.late or RANK[imported] < RANK[module]
                ), f"{path}:{found.line} imports {imported}"


@pytest.mark.parametrize("path", [ROOT / "__init__.py", *CLIENT], ids=name_of)
def test_late_imports_are_the_ones_on_the_list(path: Path) -> None:
    late = {(name_of(path), found.module) for found in imports_of(path) if found.late}
    assert late <= ALLOWED_LATE


def test_the_list_of_late_imports_is_not_longer_than_needed() -> None:
    late = {(name_of(path), i.module) for path in CLIENT for i in imports_of(path) if i.late}
    assert ALLOWED_LATE <= late


@pytest.mark.parametrize("path", [ROOT / "__init__.py", *CLIENT], ids=name_of)
def test_the_client_needs_the_standard_library_only(path: Path) -> None:
    for found in imports_of(path):
        top = found.module.split(".")[0]
        if path.name == "testing.py" and top == "pytest":
            continue  # guarded: the plugin is loaded by pytest only
        if (name_of(path), top) in ALLOWED_LATE and found.late:
            continue  # an extra
        assert top in {"perfect", "__future__"} | sys.stdlib_module_names, f"{path}:{found.line}"


@pytest.mark.parametrize("path", SERVER, ids=name_of)
def test_the_server_knows_little_of_the_rest(path: Path) -> None:
    for found in imports_of(path):
        if found.module == "perfect":
            assert set(found.names) <= {"__version__", "server"}, f"{path}:{found.line}"
        elif found.module.startswith("perfect.") and not found.module.startswith("perfect.server"):
            assert found.module in OF_THE_SERVER, f"{path}:{found.line} imports {found.module}"


@pytest.mark.parametrize("path", SERVER, ids=name_of)
def test_routes_engine_and_store_point_down(path: Path) -> None:
    layer = name_of(path).split(".")[1] if "." in name_of(path) else ""
    if layer not in SERVER_LAYERS:
        return
    for found in imports_of(path):
        parts = found.module.split(".")
        if parts[:2] == ["perfect", "server"] and len(parts) > 2 and parts[2] in SERVER_LAYERS:
            assert SERVER_LAYERS.index(parts[2]) <= SERVER_LAYERS.index(
                layer
            ), f"{path}:{found.line} imports {found.module}"


@pytest.mark.parametrize("path", SERVER, ids=name_of)
def test_no_http_and_no_sql_in_the_engine(path: Path) -> None:
    layer = name_of(path).split(".")[1] if "." in name_of(path) else ""
    forbidden = {
        "engine": {"fastapi", "starlette", "uvicorn", "sqlalchemy", "sqlite3"},
        "routes": {"sqlalchemy", "sqlite3"},
        "store": {"fastapi", "starlette", "uvicorn"},
    }.get(layer, set())
    for found in imports_of(path):
        if found.module == "sqlalchemy" and set(found.names) <= {"Connection", "Row"}:
            continue  # types: what the store gives is handed back to it
        assert found.module.split(".")[0] not in forbidden, f"{path}:{found.line}"


def test_no_file_is_long() -> None:
    long = {name_of(path): path.read_text().count("\n") for path in CLIENT + SERVER}
    assert not {name: lines for name, lines in long.items() if lines > 600}


# The public names


def test_the_public_names_are_pinned() -> None:
    assert perfect.__all__ == sorted(perfect.__all__)
    assert set(perfect.__all__) == set("""
        BackendError BackendRefused BackendUnreachable ConfigurationError CronSchedule CycleError
        Flow FlowDefinition GraphError IntervalSchedule LogCapture MissingExtra NotFound NotSendable
        PerfectError Progress RemoteError RunCancelled RunInfo ScheduleError Secret StateManager StorageError Task TaskCache TaskDefinition
        TaskError TaskFailed TaskResult TaskState TaskTimeout TriggerNotMet Uncacheable WorkerLost
        WorkflowRegistry __version__ cancelled configure connect current_run flow get_registry listen progress propagate
        run task unmapped watch_progress
        """.split())
    assert sorted(dir(perfect)) == sorted(perfect.__all__)
    for name in perfect.__all__:
        assert getattr(perfect, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        perfect.no_such_name  # type: ignore[attr-defined]


def test_what_sdk_offers_is_offered_by_the_root() -> None:
    from perfect import sdk

    for name in sdk.__all__:
        assert getattr(perfect, name) is getattr(sdk, name)
    assert set(sdk.__all__) == {
        name for name in perfect.__all__ if name not in perfect._ERRORS and name != "__version__"
    }


# An interpreter that has nothing but the standard library

BARE = """
    import logging, os, signal, sys, threading

    root = logging.getLogger()
    events = []
    # Reading modules is what an import does; nothing may be written, opened or started.
    quiet = ("socket.", "subprocess.", "os.mkdir", "os.remove", "os.rename", "sqlite3.", "signal.")

    def audit(event, args):
        if event.startswith(quiet) or event == "_thread.start_new_thread":
            events.append((event, args))
        if event == "open":
            path, mode, flags = args
            if (isinstance(mode, str) and set(mode) & set("wax+")) or (mode is None and flags & 3):
                events.append((event, args))

    def state():
        return (
            [*root.handlers], root.level, logging.getLogRecordFactory(), logging.lastResort,
            sys.stdout, sys.stderr, sys.excepthook, threading.excepthook, sys.getswitchinterval(),
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            dict(os.environ), threading.enumerate(),
        )

    before = state()
    sys.dont_write_bytecode = True
    sys.addaudithook(audit)
    import importlib
    for module in MODULES:
        importlib.import_module(module)
    assert state() == before
    assert not events, events
    events.clear()

    import perfect
    from perfect import flow, task
    from perfect.testing import mock

    @task
    def step(n):
        print("step", n)
        return n

    @flow
    def run():
        return sum(step(n) for n in range(3))

    with mock() as recorder:
        assert run() == 3
    assert recorder.run.state == "COMPLETED" and recorder.run.logs == ["step 0", "step 1", "step 2"]
    assert state() == before
    third = [name for name, module in sys.modules.items()
             if "site-packages" in (getattr(module, "__file__", None) or "")]
    assert not third, third
    print("all well")
"""


def bare_python(text: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """-S and -s: no site-packages; the checkout is all that it sees beside the standard library."""
    return subprocess.run(
        [sys.executable, "-S", "-s", "-B", "-X", "dev", "-W", "error", "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT.parent), "HOME": str(tmp_path)},
    )


def test_without_third_party_packages_everything_imports_and_a_flow_runs(tmp_path: Path) -> None:
    modules = [
        "perfect",
        *(f"perfect.{name_of(path)}" for path in CLIENT if name_of(path) != "__main__"),
    ]
    done = bare_python(BARE.replace("MODULES", repr(modules)), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all well"
    assert os.listdir(tmp_path) == []


def test_the_front_door_loads_no_network_code(tmp_path: Path) -> None:
    done = bare_python(
        "import sys, perfect; assert 'perfect.sdk' not in sys.modules\n"
        "from perfect import task, flow\n"
        f"print(sorted(set(sys.modules) & {CLIENT_PAYS_NOTHING_FOR!r}))\n",
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_missing_extra_is_named_with_its_command(tmp_path: Path) -> None:
    done = bare_python(
        "import sys; sys.argv = ['perfect', 'server', '--port', '0']\n"
        "from perfect.cli import main\n"
        "sys.exit(main())",
        tmp_path,
    )
    assert done.returncode not in (0, None)
    assert "pip install 'perfect-client[server]'" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
