"""Many runs: lists stay short searches, and the figures are printed (``-s``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.store import FLOWS, all_times, fill, measure, serving
from tests.server.peers import Peer
from tests.support.postgres import PostgresServer


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "perfect.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database()


@pytest.mark.timeout(300)
def test_pages_of_50_000_runs(empty: str) -> None:
    fill(empty, 50_000)
    with serving(empty) as port:
        print()
        for line in all_times(port, 10):
            print(line)
        peer = Peer(port, "c")
        first = peer.get("/api/runs?limit=50").ok()
        second = peer.get(f"/api/runs?limit=50&cursor={first['next']}").ok()
        times = [run["startTime"] for page in (first, second) for run in page["runs"]]
        assert times == sorted(times, reverse=True) and len(set(times)) == 100
        failed = peer.get("/api/runs?state=FAILED&flow=flow-7&limit=200").ok()["runs"]
        assert {(r["state"], r["flowName"]) for r in failed} == {("FAILED", "flow-7")}
        rare = peer.get("/api/runs?tag=rare:yes&limit=50").ok()["runs"]
        assert len(rare) == 10
        found = peer.get("/api/runs?q=FLOW-1&limit=200").ok()["runs"]
        assert {run["flowName"] for run in found} == {
            name for name in (f"flow-{i}" for i in range(FLOWS)) if "flow-1" in name
        }
        # a run's keys go on after those that were there
        assert peer.begin(peer.register("new", "a")["id"])


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_million_runs(empty: str) -> None:
    print()
    measure(empty, 1_000_000)
