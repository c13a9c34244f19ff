"""Many processes at once, against one backend."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from perfect.spool import spools
from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line, tell

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("clients", "tasks"),
    [
        pytest.param(8, 60, id="small"),
        pytest.param(32, 500, id="full", marks=pytest.mark.soak),
    ],
)
def test_processes_at_once(
    own_backend: BackendProcess,
    write_script: Callable[..., Script],
    figures: Callable[..., None],
    clients: int,
    tasks: int,
) -> None:
    script = write_script(
        "one_of_many",
        """
        tasks, client = int(sys.argv[1]), int(sys.argv[2])

        @task
        def work(number):
            print(f"client {client} task {number}")
            return number

        @flow(name="many")
        def many(client):
            return sum(work(number) for number in range(tasks))

        configure(flush_timeout=60)
        print("ready")
        sys.stdin.readline()
        many(client)
        """,
        backend_url=own_backend.url,
    )
    with ExitStack() as stack:
        processes = [
            stack.enter_context(script.started(tasks, n, client_id=f"client {n}"))
            for n in range(clients)
        ]
        for process in processes:
            await_line(process, "ready")
        began = time.monotonic()
        for process in processes:
            tell(process, "go")
        for process in processes:
            _, said = process.communicate(timeout=110)
            assert (process.returncode, said) == (0, "")
        took = time.monotonic() - began
    runs = own_backend.runs()
    assert len(runs) == clients
    seen = Counter[str]()
    for entry in runs:
        run = own_backend.get(f"/api/runs/{entry['id']}")
        client = run["parameters"]["client"]
        assert run["state"] == "COMPLETED" and run["clientId"] == f"client {client}"
        assert [(t["taskName"], t["state"]) for t in run["tasks"]] == [
            ("work", "COMPLETED")
        ] * tasks
        said = [f"client {client} task {number}" for number in range(tasks)]
        assert own_backend.lines(run["id"]) == said
        assert [t["logs"] for t in run["tasks"]] == [[line] for line in said]
        seen.update(runs=1, tasks=tasks, lines=tasks, clients=1)
    assert seen["clients"] == clients
    assert own_backend.said() == ""  # no "database is locked", and nothing else
    assert spools(str(own_backend.folder.parent / "home")) == []
    figures(**seen, tasks_per_second=round(clients * tasks / took), delivered_in_seconds=took)
