"""A scheduled flow in a real client process, run by a real backend process."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line, poll_until

pytestmark = pytest.mark.e2e

FLOWS = """
from perfect import IntervalSchedule

@task
def tick():
    print("tick")

@flow(name="ticking", schedule=IntervalSchedule(1, catchup="latest", overlap="skip"))
def ticking():
    tick()

print("ready", flush=True)
listen()
"""


def test_a_scheduled_flow_is_run_by_the_client_that_serves_it(
    own_backend: BackendProcess, tmp_path: Path
) -> None:
    script = Script(tmp_path / "ticking.py", FLOWS, backend_url=own_backend.url)

    def completed() -> list[dict[str, Any]]:
        return [run for run in own_backend.runs() if run["state"] == "COMPLETED"]

    with script.started() as process:
        await_line(process, "ready")
        poll_until(lambda: len(completed()) >= 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    runs = completed()
    assert {run["trigger"] for run in runs} == {"schedule"}
    assert {tuple(run["logs"]) for run in runs} == {("tick",)}
    (shown,) = own_backend.get("/api/schedules")["schedules"]
    assert (shown["everySeconds"], shown["catchup"], shown["overlap"]) == (1, "latest", "skip")
    ran = {slot["runId"] for slot in shown["slots"] if slot["runId"]}
    assert ran & {run["id"] for run in runs}
