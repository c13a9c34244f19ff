"""``perfect db`` on databases that a backend is using."""

from __future__ import annotations

import sqlite3
import stat
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from perfect.cli import main
from perfect.errors import ConfigurationError
from perfect.server.store import open_database, upkeep
from tests.server.conftest import Running
from tests.server.test_retention import OLD, pass_once, report


def test_a_database_in_use_is_checked(launch: Callable[..., Running], where: str) -> None:
    peer = launch().peer("c")
    for i in range(3):
        report(peer, "f", OLD + i)
    report(peer, "f", OLD, finished=False)
    flow = peer.register("waits", "a")
    peer.post(f"/api/engine/trigger/{flow['id']}", {}).ok()
    found = upkeep.check(where)
    assert found.problems == []
    assert (found.runs, found.tasks, found.lines) == (5, 5, 8)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("update run set state = 'RUNNING'", "settled, but in a state that is not final"),
        ("update task set state = 'RUNNING'", "over, but a task of it is not"),
        ("update run set tasks = 7", "the number of its tasks is wrong"),
        ("delete from task where idx = 0", "the number of its tasks is wrong"),
        ("update run set lines = 1", "more lines of log than it counts"),
        ("update run_tag set at = 5", "another time than its tags"),
        (
            "insert into request (run, flow_id, state, offers, created) "
            "select key, flow_id, 'queued', 0, 1 from run",
            "still asks to be executed",
        ),
        (
            "insert into session_flow (session, flow_id) values ('s', 'nowhere')",
            "session s: has a flow that is not there",
        ),
    ],
)
def test_what_is_wrong_is_said(
    launch: Callable[..., Running], where: str, damage: str, said: str
) -> None:
    backend = launch()
    run = report(backend.peer("c"), "f", OLD)
    with backend.server.backend.database.connect_writer() as connection, connection.begin():
        connection.exec_driver_sql(damage)
    problems = upkeep.check(where).problems
    assert any(said in problem for problem in problems), problems
    assert all(run in problem or problem.startswith("session s") for problem in problems)


def test_a_damaged_file_and_orphans_are_said(tmp_path: Path) -> None:
    file = tmp_path / "perfect.db"
    open_database(file).close()
    connection = sqlite3.connect(file)
    connection.execute(
        "insert into log (run, seq, stream, at, text) values (99, 1, 'stdout', 1, 'whose?')"
    )
    connection.commit()
    assert upkeep.check(file).problems == ["log: a row belongs to a run that is gone"]
    connection.executescript("drop index run_at; vacuum;")
    connection.close()
    content = bytearray(file.read_bytes())
    content[4096 * 3 : 4096 * 5] = b"\xff" * 8192
    file.write_bytes(content)
    assert any("damaged" in problem for problem in upkeep.check(file).problems)


def test_a_backup_of_a_database_that_is_written_to_is_whole(
    launch: Callable[..., Running], where: str, tmp_path: Path, store: str
) -> None:
    backend = launch()
    if store == "postgres":
        with pytest.raises(ConfigurationError, match="pg_dump -Fc"):
            upkeep.backup(where, tmp_path / "copy.db")
        return
    peer, stop = backend.peer("c"), threading.Event()
    first = report(peer, "f", OLD)

    def write() -> None:
        while not stop.is_set():
            report(peer, "f", OLD, lines=50)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            copy = tmp_path / f"copy-{number}.db"
            assert upkeep.backup(where, copy) == copy.stat().st_size
            assert upkeep.check(copy).problems == []
    finally:
        stop.set()
        writer.join()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert {path.suffix for path in tmp_path.glob("copy*")} == {".db"}
    restored = launch(db=copy, port=0).peer("c")
    assert restored.run(first)["state"] == "COMPLETED"
    with pytest.raises(ConfigurationError, match="is there already"):
        upkeep.backup(where, copy)
    with pytest.raises(ConfigurationError, match="FILE="):
        upkeep.backup(where, tmp_path / "no" / "such.db")


def test_a_vacuum_gives_space_back_while_a_backend_writes(
    launch: Callable[..., Running], where: str, store: str
) -> None:
    backend = launch()
    peer = backend.peer("c")
    runs = [report(peer, "f", OLD, lines=3_000) for _ in range(4)]
    for run in runs:
        peer.send("DELETE", f"/api/runs/{run}").ok()
    before, after = upkeep.vacuum(where)
    if store == "sqlite":
        assert after < before / 2
    assert report(peer, "f", OLD)
    assert upkeep.check(where).problems == []


def test_a_file_of_an_older_perfect_is_vacuumed_when_nobody_uses_it(tmp_path: Path) -> None:
    file = tmp_path / "perfect.db"
    connection = sqlite3.connect(file)
    connection.executescript("create table filler (x); pragma journal_mode=wal;")
    connection.execute("drop table filler")
    connection.commit()
    connection.close()
    opened = open_database(file)
    with pytest.raises(ConfigurationError, match="stop its backend once"):
        upkeep.vacuum(file)
    opened.close()
    upkeep.vacuum(file)
    opened = open_database(file)
    upkeep.vacuum(file)
    opened.close()


def test_the_command_says_what_came_of_it(
    launch: Callable[..., Running],
    where: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    store: str,
) -> None:
    backend = launch(retain=3600.0)
    run = report(backend.peer("c"), "f", OLD)
    assert main(["db", "check", "--db", where]) == 0
    assert "all is well: 1 runs, 1 tasks, 2 lines of log" in capsys.readouterr().out
    copy = tmp_path / "copy.db"
    assert main(["db", "backup", str(copy), "--db", where]) == (0 if store == "sqlite" else 1)
    said = capsys.readouterr()
    assert ("bytes" in said.out) if store == "sqlite" else ("pg_dump" in said.err)
    assert main(["db", "vacuum", "--db", where]) == 0
    with backend.server.backend.database.connect_writer() as connection, connection.begin():
        connection.exec_driver_sql("update run set tasks = 7")
    assert main(["db", "check", "--db", where]) == 1
    assert run in capsys.readouterr().out
    for wrong in (["backup"], ["check", "file"], ["vacuum", "file"]):
        assert main(["db", *wrong, "--db", where]) == 2
    assert main(["db", "check", "--db", str(tmp_path / f"{uuid.uuid4()}.db")]) == 1
    assert "is not there" in capsys.readouterr().err
    assert not list(tmp_path.glob("????????-*"))
    assert pass_once(backend) == 1
