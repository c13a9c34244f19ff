"""``perfect demo``: a backend and the four example workflows in one process."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import webbrowser
from types import ModuleType
from typing import Any

from perfect import sdk, session
from perfect.api import PerfectAPIClient
from perfect.errors import ConfigurationError, NotFound
from perfect.show import Table, seconds_between, show_state

PORTS_TRIED = 50
CLIENT = "perfect_demo"
STORED_WITHIN = 30.0  # s


def run_demo(serve: Any, *, port: int, db: str | None, once: bool, browser: bool) -> int:
    """Start a backend, run the examples against it, print a summary, and keep serving.

    Args:
        serve: the module `perfect.server.serve`.
        port: the first port to try; the next free one is taken.
        db: SQLite file or URL.
        once: return when the runs are stored instead of serving on.
        browser: open the page.

    Returns:
        0 if every run is stored as COMPLETED, else 1.
    """
    examples = _load_examples()
    server = _start(serve, port, db)
    try:
        # "localhost" is what people type; the backend listens on 127.0.0.1.
        url = server.url.replace("127.0.0.1", "localhost")
        taken = url.rpartition(":")[2]
        if port and taken != str(port):
            print(f"Port {port} is busy: the backend takes {taken}.")
        print(f"Backend and pages: {url}\n", flush=True)
        sdk.configure(backend_url=server.url, client_id=CLIENT, mock=False)
        if browser and not once and sys.stdout.isatty():
            webbrowser.open(url)
        client = PerfectAPIClient(server.url, CLIENT)
        before = {run["id"] for run in _runs(client)}
        for flow in examples.FLOWS:
            print(f"── {flow.name}", flush=True)
            try:
                flow()
            except Exception as error:  # it is in the run; the summary says so
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
            print()
        session.get_session().flush(STORED_WITHIN)
        runs = [run for run in _runs(client) if run["id"] not in before]
        good = _summarise(runs, [flow.name for flow in examples.FLOWS], url)
        if once:
            return 0 if good else 1
        print(f"\nServing these flows: trigger them on {url} — Ctrl+C ends.", flush=True)
        sdk.listen()
        return 0 if good else 1
    finally:
        session.reset()
        server.stop()


def _start(serve: Any, port: int, db: str | None) -> Any:
    for candidate in range(port, min(port + PORTS_TRIED, 65536)) if port else [0]:
        try:
            server = _open(serve, candidate, db)
            break
        except ConfigurationError as error:
            if error.argument != "port":
                raise
    else:
        raise NotFound("free port", f"{port}-{port + PORTS_TRIED - 1}")
    server.start()
    return server


def _open(serve: Any, port: int, db: str | None) -> Any:
    try:
        return serve.Server(serve.ServerSettings(port=port, db=db))
    except ConfigurationError as error:
        if error.argument != "db" or db is not None:
            raise
        # Another backend has the usual database, as it has the usual port.
        home = session.get_session().settings.home
        spare = os.path.join(home, f"perfect-{port}.db")
        print(f"{error}: the demo keeps its runs in {spare}")
        return serve.Server(serve.ServerSettings(port=port, db=spare))


def _runs(client: PerfectAPIClient) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = client.request("GET", f"/api/runs?client={CLIENT}&limit=200")[
        "runs"
    ]
    return runs


def _summarise(runs: list[dict[str, Any]], expected: list[str], url: str) -> bool:
    table = Table("FLOW", "STATE", "TASKS", "TOOK", "RUN")
    for run in reversed(runs):
        table.add(
            run["flowName"],
            show_state(run["state"]),
            str(run.get("taskCount", len(run.get("tasks") or ()))),
            seconds_between(run["startTime"], run["endTime"]),
            f"{url}/runs/{run['id']}",
        )
    table.print("No run was stored.")
    completed = sorted(run["flowName"] for run in runs if run["state"] == "COMPLETED")
    missing = sorted(set(expected) - set(completed))
    if missing:
        print(f"Not completed: {', '.join(missing)}", file=sys.stderr)
    return not missing


def _load_examples() -> ModuleType:
    """The example workflows: inside an installed package, or beside a checkout's."""
    if importlib.util.find_spec("perfect._examples") is not None:
        return importlib.import_module("perfect._examples.workflows.example_flows")
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not os.path.isfile(os.path.join(root, "examples", "workflows", "example_flows.py")):
        raise NotFound("file", "examples/workflows/example_flows.py", "the examples are missing")
    sys.path.insert(0, root)
    return importlib.import_module("examples.workflows.example_flows")
