"""SQLite: one file, one lock."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from perfect.errors import ConfigurationError
from perfect.server.store import schema
from perfect.server.store.database import Database

_PRAGMAS = (
    # before anything is written, or it has no effect: removed rows can be given back bit by bit
    "PRAGMA auto_vacuum=INCREMENTAL",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA busy_timeout=10000",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-16384",
    "PRAGMA wal_autocheckpoint=4000",
    "PRAGMA journal_size_limit=67108864",
)
# as PRAGMA auto_vacuum says it
INCREMENTAL = 2
_ARGUMENTS = {"isolation_level": None, "check_same_thread": False}


class SQLite(Database):
    """An open SQLite file, which is locked for this process until it is closed.

    Args:
        path: of the file.

    Raises:
        ConfigurationError: it can't be opened: not writable, not a database, in use by another backend, or
            written by a newer perfect.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = hold(path)
            # SQLite gives its side files the mode of the database: logs are nobody else's business
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise ConfigurationError("db", str(path), error.strerror or str(error)) from error
        url = sa.URL.create("sqlite", database=str(path))
        readers = sa.create_engine(url, connect_args=_ARGUMENTS, pool_size=8, max_overflow=32)
        writer = sa.create_engine(url, connect_args=_ARGUMENTS, poolclass=NullPool)
        super().__init__(str(path), readers, writer)
        # the driver is told to leave transactions alone, so BEGIN is ours to say
        _on_connect(readers, _PRAGMAS, "BEGIN")
        _on_connect(writer, _PRAGMAS, "BEGIN IMMEDIATE")
        try:
            self._prepare(url)
        except DBAPIError as error:
            self.close()
            raise ConfigurationError("db", str(path), str(error.orig)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection and let go of the file."""
        super().close()
        os.close(self._lock)

    def release(self, connection: Connection, pages: int) -> int:
        if connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one() != INCREMENTAL:
            return 0  # made by an older perfect: only a whole VACUUM can
        return cut_free_pages(connection.connection.driver_connection, pages)

    def _prepare(self, url: sa.URL) -> None:
        # a table that is made anew must not take its children with it when the old one goes
        pragmas = [p for p in _PRAGMAS if "foreign_keys" not in p] + ["PRAGMA foreign_keys=OFF"]
        engine = sa.create_engine(url, connect_args=_ARGUMENTS, poolclass=NullPool)
        _on_connect(engine, pragmas, "BEGIN IMMEDIATE")
        with engine.begin() as connection:
            schema.prepare(connection, self.name)


def cut_free_pages(connection: Any, pages: int) -> int:
    """Cut at most so many free pages off the file of a driver's connection; returns how many are left."""
    left = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
    for _ in range(min(pages, left)):
        # one at a time: the driver takes only the first step of this statement, which frees one page
        connection.execute("PRAGMA incremental_vacuum(1)")
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])


def hold(path: Path) -> int:
    """Hold the lock beside a database: two backends on one SQLite file would not see each other's runs.

    Returns:
        A file descriptor; the lock ends when it is closed.

    Raises:
        ConfigurationError: another process has it.
        OSError: the file can't be made.
    """
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise ConfigurationError("db", str(path), "is in use by another backend") from None
    return handle


def _on_connect(engine: sa.Engine, pragmas: list[str] | tuple[str, ...], begin: str) -> None:
    @event.listens_for(engine, "connect")
    def _pragmas(dbapi_connection: Any, _record: Any) -> None:
        cursor = dbapi_connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
