"""Old runs go, with everything of theirs and nothing else."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from perfect.errors import ConfigurationError
from perfect.server.engine import retention as engine
from perfect.server.settings import ServerSettings, duration
from perfect.server.store import upkeep
from perfect.server.store.tables import metadata
from tests.server.conftest import Running
from tests.server.peers import Peer, ended, started, wait_until

DAY = 24 * 3600 * 1000
OLD = 1_700_000_000_000
OF_RUNS = ("task", "task_detail", "task_attempt", "log", "run_tag", "request")


def rows(backend: Running) -> dict[str, int]:
    """How many rows each table has."""
    with backend.server.backend.read() as connection:
        return {
            name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }


def now(backend: Running) -> int:
    return backend.server.backend.clock.now()


def report(peer: Peer, flow: str, t: int, lines: int = 2, finished: bool = True) -> str:
    """A run with something in every table."""
    run = str(uuid.uuid4())
    begin = started(run, flow, "load", t=t)
    begin["flow"]["tags"] = {"env": "prod"}
    failed = {"attempt": 1, "started": t, "ended": t, "error": {"type": "E", "message": "m"}}
    task = {"type": "task", "run": run, "t": t, "index": 0, "name": "load", "attempt": 2}
    task |= {"state": "COMPLETED", "started": t, "ended": t + 5, "attempts": [failed]}
    task["result"] = {"passed": True, "note": "n", "table": []}
    said = [{"type": "log", "run": run, "t": t, "text": f"line {i}"} for i in range(lines)]
    peer.ingest(begin, task, *said, *([ended(run, 1, t=t + 10)] if finished else []))
    return run


def pass_once(backend: Running) -> int:
    """One pass of retention, now."""
    inner = backend.server.backend
    assert inner._loop is not None
    return asyncio.run_coroutine_threadsafe(inner.retention.run(), inner._loop).result(60)


def test_old_runs_go_with_everything_and_the_others_stay(launch: Callable[..., Running]) -> None:
    backend = launch(retain=30 * 24 * 3600.0)
    peer = backend.peer("c")
    recent = now(backend) - DAY
    kept = report(peer, "f", recent)
    before = rows(backend)
    gone = [report(peer, "f", OLD + i) for i in range(5)]
    going_on = report(peer, "f", OLD, finished=False)
    statistics = peer.get("/api/statistics").ok()
    assert pass_once(backend) == 5
    assert {run["id"] for run in peer.get("/api/engine/runs").ok()} == {kept, going_on}
    for run in gone:
        peer.get(f"/api/runs/{run}").refused(404)
    after = rows(backend)
    # what the run that goes on has is the same as what the kept one has
    assert {name: after[name] for name in ("run", *OF_RUNS)} == {
        name: 2 * before[name] for name in ("run", *OF_RUNS)
    }
    assert all(before[name] for name in OF_RUNS if name != "request")
    assert peer.get("/api/statistics").ok() == statistics
    assert pass_once(backend) == 0
    # the run that went on is still written to
    assert peer.ingest(ended(going_on, 1))["rejected"] == []
    assert pass_once(backend) == 1


def test_the_newest_of_each_flow_stay(launch: Callable[..., Running]) -> None:
    backend = launch(retain_runs=2)
    peer = backend.peer("c")
    often = [report(peer, "often", OLD + i * 1000) for i in range(6)]
    rare = report(peer, "rare", OLD - DAY)
    running = report(peer, "often", OLD - 2 * DAY, finished=False)
    flow = peer.register("waits", "a")
    waiting = [peer.post(f"/api/engine/trigger/{flow['id']}", {}).ok()["runId"] for _ in range(3)]
    assert pass_once(backend) == 4
    left = {run["id"] for run in peer.get("/api/engine/runs").ok()}
    assert left == {*often[-2:], rare, running, *waiting}
    assert rows(backend)["request"] == 3


def test_a_large_run_goes_in_pieces_between_which_clients_are_served(
    launch: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_ROWS", 50)
    backend = launch(retain=3600.0)
    peer = backend.peer("c")
    report(peer, "f", OLD, lines=400)
    inner, steps = backend.server.backend, []
    write = inner.write

    async def counted(job: Any, *args: Any) -> Any:
        if job is engine.remove:
            steps.append(rows(backend)["log"])
        return await write(job, *args)

    monkeypatch.setattr(inner, "write", counted)
    assert pass_once(backend) == 1
    assert len(steps) > 8
    assert all(0 <= earlier - later <= 50 for earlier, later in zip(steps, steps[1:], strict=False))
    assert not any(rows(backend)[name] for name in ("run", *OF_RUNS))


def test_it_happens_by_itself(launch: Callable[..., Running]) -> None:
    backend = launch(retain=3600.0, retain_every=0.05)
    peer = backend.peer("c")
    run = report(peer, "f", OLD)
    wait_until(lambda: peer.get(f"/api/runs/{run}").status == 404)


def test_audit_sessions_and_logins_go_with_time(launch: Callable[..., Running]) -> None:
    backend = launch(retain=30 * 24 * 3600.0)
    peer = backend.peer("c", "11111111-1111-4111-8111-111111111111")
    peer.register("f", "a")
    inner = backend.server.backend
    with inner.database.connect_writer() as connection, connection.begin():
        for name, at in (("away", OLD), ("also-old", OLD), ("there", now(backend))):
            connection.exec_driver_sql(
                f"insert into session (id, client, seq, monitored, created) values ('{name}', 'c', 7, 0, {at})"
            )
            connection.exec_driver_sql(f"insert into seen (session, at) values ('{name}', {at})")
            connection.exec_driver_sql(
                f"insert into audit (at, action, detail) values ({at}, '{name}', '{{}}')"
            )
            connection.exec_driver_sql(
                f"insert into login (mark, kind, created, used) values ('{name}', 'k', {at}, {at})"
            )
    pass_once(backend)
    with inner.read() as connection:
        for column, table in (
            ("id", "session"),
            ("session", "seen"),
            ("action", "audit"),
            ("mark", "login"),
        ):
            left = set(connection.exec_driver_sql(f"select {column} from {table}").scalars())
            assert "there" in left and not left & {"away", "also-old"}, table
    # who is connected keeps its flows, however long ago it registered them
    assert rows(backend)["session_flow"] == 1


def test_the_file_shrinks(tmp_path: Path, launch: Callable[..., Running], store: str) -> None:
    if store != "sqlite":
        return
    backend = launch(retain=3600.0)
    peer = backend.peer("c")
    for i in range(5):
        report(peer, "f", OLD + i, lines=4_000)
    file = tmp_path / "perfect.db"
    _checkpoint(backend)
    full = file.stat().st_size
    assert pass_once(backend) == 5
    _checkpoint(backend)
    assert file.stat().st_size < full / 3
    assert upkeep.check(file).problems == []


def _checkpoint(backend: Running) -> None:
    with backend.server.backend.database.connect_writer() as connection:
        connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 2_592_000), ("12h", 43_200), ("1.5m", 90), ("45", 45), ("2w", 1_209_600)],
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert duration("retain", text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1d", "0d", "1y", "1 d", "1e5", "nan", "inf", "٣d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="retain="):
        duration("retain", text)


@pytest.mark.parametrize("wrong", [{"retain": 0.0}, {"retain_runs": 0}, {"retain_every": 0.0}])
def test_settings_that_would_remove_everything_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        ServerSettings(**wrong)
