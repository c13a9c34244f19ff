"""Health, metrics and the access log, and a backend that is told to stop while it works."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until


def _metrics(peer: Peer) -> dict[str, float]:
    answer = peer.get("/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_what_happens_is_counted(launch: Callable[..., Running], run_id: str) -> None:
    backend = launch()
    peer = backend.peer("c")
    flow = peer.register("f", "a")["id"]
    peer.ingest(
        started(run_id, "f", "a"),
        {"type": "task", "run": run_id, "index": 0, "state": "COMPLETED"},
        {"type": "task", "run": run_id, "index": 1, "state": "COMPLETED"},
        {"type": "log", "run": run_id, "text": "line"},
        {"type": "log", "run": run_id, "text": 1},
        ended(run_id, 2),
    )
    peer.post(f"/api/engine/trigger/{flow}", {}).ok()
    peer.get(f"/api/runs/{run_id}").ok()
    peer.get("/api/runs/unknown?secret=1").refused(404)
    peer.get("/nothing/here").refused(404)
    found = _metrics(peer)
    assert found["perfect_events_total"] == 5 and found["perfect_events_rejected_total"] == 1
    assert found["perfect_tasks_created_total"] == 3 and found["perfect_log_lines_total"] == 1
    assert found["perfect_runs_created_total"] == 2
    assert found['perfect_runs_ended_total{state="COMPLETED"}'] == 1
    assert found['perfect_runs{state="PENDING"}'] == 1
    assert found['perfect_requests{state="queued"}'] == 1
    assert found["perfect_ingest_seconds_count"] == 1
    assert found['perfect_ingest_seconds_bucket{le="+Inf"}'] == 1
    assert found["perfect_commits_total"] > 0 and found["perfect_database_bytes"] > 10_000
    route = 'perfect_http_requests_total{method="GET",route="/api/runs/{run_id}",status="%d"}'
    assert (found[route % 200], found[route % 404]) == (1, 1)
    # addresses that nobody made do not become names
    assert not [name for name in found if "nothing" in name or "secret" in name]
    # a second application counts for itself
    assert _metrics(launch_other(launch))["perfect_events_total"] == 0


def launch_other(launch: Callable[..., Running]) -> Peer:
    return launch(db=None).peer()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFECT_HOME", str(tmp_path / "home"))


def test_a_scrape_counts_rows_at_most_every_five_seconds(
    launch: Callable[..., Running], run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = launch().peer("c")
    assert _metrics(peer)['perfect_runs{state="RUNNING"}'] == 0
    peer.ingest(started(run_id, "f"))
    found = _metrics(peer)
    assert found['perfect_runs{state="RUNNING"}'] == 0 and found["perfect_events_total"] == 1
    monkeypatch.setattr("perfect.server.routes.metrics._FRESH", 0.0)
    assert _metrics(peer)['perfect_runs{state="RUNNING"}'] == 1


def test_health_says_what_is_wrong(
    launch: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = launch(queue_bytes=1_000)
    peer = backend.peer("c")
    healthy = peer.get("/api/health").ok()
    assert healthy["checks"] == dict.fromkeys(("writer", "queue", "database"), "ok")
    monkeypatch.setattr("perfect.server.engine.backend._PATIENCE", 0.2)
    begun, going = threading.Event(), threading.Event()
    engine = backend.server.backend
    engine._writer.submit(lambda tx: (begun.set(), going.wait(20)))
    assert begun.wait(20)
    engine._writer.submit(lambda tx: None, size=1_000)
    wait_until(lambda: engine.queue[0] == 1)
    failure = peer.get("/api/health").refused(503)
    assert "0.2 s" in failure["detail"]["database"] and "1000 bytes" in failure["detail"]["queue"]
    assert failure["detail"]["writer"] == "ok"
    going.set()
    wait_until(lambda: peer.get("/api/health").status == 200)


class Process:
    """A backend as a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "perfect.server", "--port", "0", "--db", str(folder / "p.db")]
            + list(arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PERFECT_HOME": str(folder)},
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])

    def stop(self) -> tuple[int, str, str, float]:
        """Exit code, what it wrote to both outputs, and how long it took to stop (s)."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err, time.monotonic() - began


def test_the_access_log_is_json_and_knows_no_secret(tmp_path: Path) -> None:
    server = Process(tmp_path, "--access-log")
    peer = Peer(server.port, "me", "my-session")
    peer.get("/api/runs?q=hush", headers={"Authorization": "Bearer hush"}).ok()
    peer.get("/no%22where", headers={"Cookie": "perfect=hush"}).refused(404)
    code, out, err, _ = server.stop()
    assert (code, err) == (0, "") and "hush" not in out
    first, second = [json.loads(line) for line in out.splitlines()]
    assert first.pop("time").endswith("Z") and first.pop("ms") > 0 and first.pop("bytes") > 10
    assert first == {
        "method": "GET",
        "route": "/api/runs",
        "path": "/api/runs",
        "status": 200,
        "peer": "127.0.0.1",
        "client": "me",
        "session": "my-session",
    }
    assert (second["path"], second["route"], second["status"]) == ('/no"where', "(none)", 404)


def test_without_being_asked_nothing_is_written(tmp_path: Path) -> None:
    server = Process(tmp_path)
    Peer(server.port).get("/api/runs").ok()
    assert server.stop()[:3] == (0, "", "")


def test_nothing_acknowledged_is_lost_when_it_is_stopped_under_load(tmp_path: Path) -> None:
    server = Process(tmp_path)
    acknowledged: dict[str, int] = {}
    running = threading.Event()

    def work() -> None:
        peer, run = Peer(server.port, "c"), str(uuid.uuid4())
        peer.ingest(started(run, "f"))
        lines = 0
        try:
            while True:
                events = [
                    {"type": "log", "run": run, "text": f"line {lines + n}"} for n in range(20)
                ]
                peer.ingest(*events)
                lines += 20
                acknowledged[run] = lines
                if len(acknowledged) == 4:
                    running.set()
        except (OSError, AssertionError, http.client.HTTPException):
            return  # it is stopping: refused or not answered, and so not counted

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert running.wait(20)
    code, _, err, seconds = server.stop()
    for worker in workers:
        worker.join(20)
    assert (code, err) == (0, "") and seconds < 5
    again = Process(tmp_path)
    peer = Peer(again.port)
    for run, lines in acknowledged.items():
        assert peer.run(run)["logLines"] >= lines
    again.stop()
