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
from datetime import date

import perfect
from perfect import IntervalSchedule

@task
def tick(day):
    print("tick", type(day).__name__, day.year, perfect.current_run().configuration)

EVERY_SECOND = IntervalSchedule(
    1, catchup="latest", overlap="skip", configuration="release", parameters={"day": "2026-01-31"}
)

@flow(name="ticking", schedule=EVERY_SECOND)
def ticking(day: date):
    tick(day)

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
    assert {tuple(run["logs"]) for run in runs} == {("tick date 2026 release",)}
    assert {run["configuration"] for run in runs} == {"release"}
    assert {run["parameters"]["day"] for run in runs} == {"2026-01-31"}
    (shown,) = own_backend.get("/api/schedules")["schedules"]
    assert (shown["everySeconds"], shown["catchup"], shown["overlap"]) == (1, "latest", "skip")
    ran = {slot["runId"] for slot in shown["slots"] if slot["runId"]}
    assert ran & {run["id"] for run in runs}


def test_a_flow_that_has_no_schedule_any_more_is_run_no_more(
    own_backend: BackendProcess, tmp_path: Path
) -> None:
    before = Script(tmp_path / "before.py", FLOWS, backend_url=own_backend.url)
    with before.started() as process:
        await_line(process, "ready")
        poll_until(own_backend.runs)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    # while nobody listens, what is due waits visibly, and the next one does not pile up on it
    poll_until(lambda: "PENDING" in [run["state"] for run in own_backend.runs()])
    source = FLOWS.replace(", schedule=EVERY_SECOND", "")
    after = Script(tmp_path / "after.py", source, backend_url=own_backend.url)
    with after.started() as process:
        await_line(process, "ready")
        poll_until(lambda: own_backend.get("/api/schedules")["schedules"] == [])
        # and is run when somebody does, though it has no schedule any more
        poll_until(lambda: {run["state"] for run in own_backend.runs()} == {"COMPLETED"})
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    (flow,) = own_backend.get("/api/engine/flows")
    assert (flow["schedule"], flow["nextFire"]) == (None, None)
