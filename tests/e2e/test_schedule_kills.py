"""A backend that is killed around a slot: each slot is run exactly once, whenever that was."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.backend import BackendProcess

pytestmark = pytest.mark.e2e

# s before and after a slot: where the job runs, and where it is committed
AROUND = (-0.03, 0.03)


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(5, marks=pytest.mark.timeout(120)),
        pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_a_killed_backend_runs_each_slot_once(tmp_path: Path, kills: int) -> None:
    backend = BackendProcess(tmp_path / "backend")
    chance = random.Random(kills)
    with backend:
        schedule = {"every_seconds": 1, "catchup": "all"}
        status, _ = backend.request("POST", "/api/flows", {"name": "ticks", "schedule": schedule})
        assert status == 200
        began = time.time()
        for _ in range(kills):
            # the whole second after the next, so that the backend is up and waits for it
            slot = int(time.time()) + 2
            time.sleep(max(0.0, slot + chance.uniform(*AROUND) - time.time()))
            backend.kill()
            backend.start()
        # up for one more slot, in which what was missed is caught up with
        last = int(time.time()) + 1
        while True:
            (shown,) = backend.get("/api/schedules")["schedules"]
            if shown["slots"] and shown["slots"][0]["slot"] >= time.strftime(
                "%Y-%m-%dT%H:%M:%S", time.gmtime(last)
            ):
                break
            time.sleep(0.05)  # the backend is another process: there is no event to wait for
        assert backend.stop() == 0
    with closing(sqlite3.connect(backend.database)) as database:
        rows = database.execute(
            "SELECT slot, run, reason FROM schedule_slot ORDER BY slot"
        ).fetchall()
        runs = database.execute("SELECT key FROM run WHERE trigger = 'schedule'").fetchall()
        requests = database.execute("SELECT run FROM request").fetchall()
    slots = [slot // 1000 for slot, _, _ in rows]
    assert slots == list(range(slots[0], slots[-1] + 1))  # none left out
    assert began < slots[0] <= began + 2 and slots[-1] >= last
    assert {reason for _, _, reason in rows} == {None}
    # none twice, and none without its request
    assert Counter(run for _, run, _ in rows) == Counter(key for key, in runs)
    assert Counter(key for key, in runs) == Counter(run for run, in requests)
    assert max(Counter(run for _, run, _ in rows).values()) == 1
