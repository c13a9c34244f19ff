"""The store on real SQLite files."""

from __future__ import annotations

import sqlite3
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from perfect.errors import ConfigurationError, MissingExtra
from perfect.server.store import (
    Database,
    Overloaded,
    StoreFailed,
    Transaction,
    Writer,
    open_database,
    records,
)
from perfect.server.store.tables import meta, run
from perfect.server.store.writer import KeepsNothing


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "perfect.db")
    yield opened
    opened.close()


class Desk:
    """A writer that counts how often it was told to forget."""

    def __init__(self, database: Database, max_bytes: int = 1000) -> None:
        self.forgotten = 0
        self.writer = Writer(database.connect_writer, max_bytes, self._forget)
        self.writer.start()

    def _forget(self) -> None:
        self.forgotten += 1


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    opened = Desk(database)
    yield opened
    opened.writer.close()


def _add(name: str) -> Callable[[Transaction], int]:
    return lambda tx: tx.connection.execute(insert(meta).values(name=name, value="x")).rowcount


def _names(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(select(meta.c.name)).scalars()) - {"schema_version"}


def test_a_job_is_committed_when_its_future_is_done(database: Database, desk: Desk) -> None:
    assert desk.writer.submit(_add("a")).result(10) == 1
    assert _names(database) == {"a"}


def test_what_waits_is_committed_together_and_a_failure_spoils_only_itself(
    database: Database, desk: Desk
) -> None:
    hold, held = threading.Event(), threading.Event()

    def wait(tx: Transaction) -> None:
        held.set()
        hold.wait(10)

    def fail(tx: Transaction) -> None:
        tx.connection.execute(insert(meta).values(name="half done", value="x"))
        raise ValueError("wrong")

    def refuse(tx: Transaction) -> None:
        raise KeepsNothing("no")

    seen: list[set[str]] = []

    def look(tx: Transaction) -> None:
        tx.after_commit(lambda: seen.append(_names(database)))

    first = desk.writer.submit(wait)
    assert held.wait(10)
    futures: list[Future[Any]] = [
        desk.writer.submit(job) for job in (look, _add("a"), fail, refuse, _add("b"))
    ]
    hold.set()
    first.result(10)
    assert futures[4].result(10) == 1
    with pytest.raises(ValueError, match="wrong"):
        futures[2].result(10)
    with pytest.raises(KeepsNothing):
        futures[3].result(10)
    assert _names(database) == {"a", "b"}
    # both were there when the first job of the group was told of the commit
    assert seen == [{"a", "b"}]
    assert desk.forgotten == 1


@pytest.mark.parametrize("error", [ValueError, KeepsNothing])
def test_of_a_job_alone_that_fails_nothing_is_kept(
    database: Database, desk: Desk, error: type[Exception]
) -> None:
    def fail(tx: Transaction) -> None:
        tx.after_commit(lambda: called.append(True))
        tx.connection.execute(insert(meta).values(name="half done", value="x"))
        raise error("wrong")

    called: list[bool] = []
    with pytest.raises(error, match="wrong"):
        desk.writer.submit(fail).result(10)
    assert desk.writer.submit(_add("a")).result(10) == 1
    assert _names(database) == {"a"} and not called
    assert desk.forgotten == (error is ValueError)


def test_a_full_queue_refuses(database: Database) -> None:
    desk = Desk(database, max_bytes=100)
    hold, held = threading.Event(), threading.Event()

    def wait(tx: Transaction) -> None:
        held.set()
        hold.wait(10)

    try:
        desk.writer.submit(wait)
        assert held.wait(10)
        queued = desk.writer.submit(_add("a"), size=80)
        with pytest.raises(Overloaded):
            desk.writer.submit(_add("b"), size=80)
        hold.set()
        assert queued.result(10) == 1
        assert desk.writer.submit(_add("b"), size=80).result(10) == 1
    finally:
        hold.set()
        desk.writer.close()


def test_a_database_that_will_not_take_it_fails_the_job_and_the_next_works(
    database: Database,
) -> None:
    broken = True

    def connect() -> Connection:
        if broken:
            raise sqlite3.OperationalError("disk I/O error")
        return database.connect_writer()

    writer = Writer(connect, 1000, lambda: None)
    writer.start()
    try:
        with pytest.raises(StoreFailed, match="disk I/O error"):
            writer.submit(_add("a")).result(10)
        broken = False
        assert writer.submit(_add("a")).result(10) == 1
    finally:
        writer.close()


def test_closing_finishes_what_is_queued(database: Database) -> None:
    desk = Desk(database)
    futures = [desk.writer.submit(_add(str(i))) for i in range(200)]
    desk.writer.close()
    assert sum(future.result(0) for future in futures) == 200
    with pytest.raises(Overloaded):
        desk.writer.submit(_add("late"))


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    where = tmp_path / "a" / "b" / "perfect.db"
    open_database(where).close()
    assert stat.S_IMODE(where.stat().st_mode) == 0o600
    open_database(f"sqlite:///{where}").close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    where = tmp_path / "notes.txt"
    where.write_text("not a database at all, but long enough to be looked at" * 100)
    with pytest.raises(ConfigurationError, match="not a database"):
        open_database(where)
    with pytest.raises(ConfigurationError, match="neither a path"):
        open_database("mysql://somewhere/else")
    with pytest.raises(ConfigurationError):
        open_database(tmp_path / "notes.txt" / "below.db")


def test_a_second_backend_on_the_same_file_is_refused(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="another backend"):
        open_database(database.name)


def test_records_have_the_columns_of_their_table() -> None:
    names = [name for name in records.RunRecord.__slots__ if name not in ("codes", "learned")]
    assert names == [column.name for column in run.columns]


def test_lists_are_served_by_an_index(database: Database) -> None:
    """A million runs must be listed without sorting or scanning them."""
    for where, index in (
        ("", "run_at"),
        ("where state in ('FAILED')", "run_state_at"),
        ("where flow_id in ('x')", "run_flow_at"),
        ("where flow_id in ('x') and state in ('FAILED')", "run_flow_state_at"),
        ("where client = 'x'", "run_client_at"),
        ("where client = 'x' and state in ('FAILED')", "run_client_state_at"),
    ):
        with database.read() as connection:
            plan = connection.exec_driver_sql(
                f"explain query plan select * from run {where} order by at desc, key desc limit 50"
            ).all()
        text = " ".join(str(row) for row in plan)
        assert index in text and "TEMP B-TREE" not in text, (where, text)


def test_postgresql_needs_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"pip install 'perfect-client\[postgres\]'"):
        open_database("postgresql+psycopg://somebody@/nothing")


@pytest.mark.postgres
@pytest.mark.parametrize("query", ["host=/nowhere", "host=127.0.0.1&port=1"])
def test_a_postgresql_that_is_not_there_is_refused_without_the_password(query: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_database(f"postgresql+psycopg://somebody:secret@/nothing?{query}")
    assert "secret" not in str(refused.value) and "db=" in str(refused.value)


@pytest.mark.parametrize(
    "url", ["postgresql+asyncpg://h/d", "postgresql://h", "sqlite://", "a://[x"]
)
def test_urls_of_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="db="):
        open_database(url)
