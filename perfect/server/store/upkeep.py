"""Looking after a database that a backend may be using at the same time: check, backup, vacuum."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from perfect.errors import ConfigurationError, MissingExtra
from perfect.server.store import invariants, schema
from perfect.server.store.opening import located
from perfect.server.store.sqlite import INCREMENTAL, cut_free_pages, hold
from perfect.server.store.tables import SCHEMA_VERSION

_SHOWN = 20
# of one transaction, so that a backend's writer waits for some 10 ms at most
_PAGES = 200
_WAIT_MS = 60_000
# what was written lately stands in a file beside it
_CHECKPOINT = "PRAGMA wal_checkpoint(TRUNCATE)"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        problems: what is wrong, a sentence each; empty when all is well.
        runs: how many runs there are.
        tasks: how many tasks.
        lines: how many lines of log.
    """

    problems: list[str] = field(default_factory=list)
    runs: int = 0
    tasks: int = 0
    lines: int = 0


def check(where: str | os.PathLike[str]) -> Finding:
    """Read the whole database and say what is wrong with it; changes nothing.

    Raises:
        ConfigurationError: it can't be read, or has another schema than this perfect's.
    """
    found = located(where)
    name = str(found) if isinstance(found, Path) else found.render_as_string()
    problems: list[str] = []
    try:
        with _snapshot(found, isolation_level="REPEATABLE READ") as connection:
            if isinstance(found, Path):
                # first of all: of a file that is damaged, other answers mean nothing
                damage = connection.exec_driver_sql(f"PRAGMA integrity_check({_SHOWN})").scalars()
                problems = [f"the file is damaged: {line}" for line in damage if line != "ok"]
                if problems:
                    return Finding(problems)
            version = schema.version_of(connection, name)
            if version != SCHEMA_VERSION:
                raise ConfigurationError("db", name, _outdated(version))
            if isinstance(found, Path):
                rows = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(_SHOWN)
                problems = [f"{row[0]}: a row belongs to a {row[2]} that is gone" for row in rows]
            problems += invariants.broken(connection)
            return Finding(problems, *invariants.size(connection))
    except DBAPIError as error:
        if "malformed" in str(error.orig):
            return Finding([*problems, f"the file is damaged: {error.orig}"])
        raise ConfigurationError("db", name, str(error.orig).strip()) from error


def backup(where: str | os.PathLike[str], target: Path) -> int:
    """Copy a database as it is at this moment; a backend goes on meanwhile.

    Returns:
        The size of the copy in bytes.

    Raises:
        ConfigurationError: it can't be read, the copy can't be written or is there already, or it is not SQLite.
    """
    found = located(where)
    if not isinstance(found, Path):
        raise ConfigurationError(
            "db",
            found.render_as_string(),
            f"is PostgreSQL, which has its own: pg_dump -Fc {found.database} > {target}",
        )
    _existing(found)
    if target.exists():
        raise ConfigurationError("FILE", str(target), "is there already")
    part = target.with_name(f"{target.name}.part")
    try:
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
        with closing(sqlite3.connect(found, isolation_level=None)) as source:
            with closing(sqlite3.connect(part, isolation_level=None)) as copy:
                # in one step: one that is interrupted by a writer would begin anew each time
                source.backup(copy, pages=-1)
                # one file, without others beside it
                copy.execute("PRAGMA journal_mode=DELETE")
                said = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise ConfigurationError("db", str(found), f"the copy is damaged: {said}")
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.link(part, target)  # unlike a rename, this never replaces a file
    except sqlite3.Error as error:
        raise ConfigurationError("db", str(found), str(error)) from error
    except OSError as error:
        raise ConfigurationError("FILE", str(target), error.strerror or str(error)) from error
    finally:
        with suppress(OSError):
            part.unlink()
    return target.stat().st_size


def vacuum(where: str | os.PathLike[str]) -> tuple[int, int]:
    """Give the space of removed rows back to the file system.

    A file that no backend uses is written anew; from one that is in use, free pages are cut off bit by bit.

    Returns:
        Its size in bytes before and after (0, 0 for PostgreSQL, whose server knows).

    Raises:
        ConfigurationError: it can't be written, or was made by an older perfect and is in use.
    """
    found = located(where)
    if not isinstance(found, Path):
        with _snapshot(found, isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM (ANALYZE)")
        return 0, 0
    _existing(found)
    try:
        lock: int | None = hold(found)
    except ConfigurationError:
        lock = None
    try:
        with closing(sqlite3.connect(found, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA busy_timeout={_WAIT_MS}")
            connection.execute(_CHECKPOINT).fetchall()
            before = found.stat().st_size
            if lock is not None:
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                connection.execute("VACUUM")
            elif connection.execute("PRAGMA auto_vacuum").fetchone()[0] != INCREMENTAL:
                raise ConfigurationError(
                    "db",
                    str(found),
                    "was made by an older perfect: stop its backend once for this (later ones need not)",
                )
            else:
                left = 1
                while left:
                    connection.execute("BEGIN IMMEDIATE")
                    left = cut_free_pages(connection, _PAGES)
                    connection.execute("COMMIT")
            connection.execute(_CHECKPOINT).fetchall()
    except sqlite3.Error as error:
        raise ConfigurationError("db", str(found), str(error)) from error
    finally:
        if lock is not None:
            os.close(lock)
    return before, found.stat().st_size


@contextmanager
def _snapshot(found: Path | sa.URL, **options: Any) -> Iterator[Connection]:
    """A connection to a database that is there, which sees it as it is now."""
    if isinstance(found, Path):
        _existing(found)
        url = sa.URL.create("sqlite", database=str(found))
        options = {"connect_args": {"isolation_level": None}}
    else:
        url = found
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, **options)
    except ImportError as error:
        raise MissingExtra("postgres", "a PostgreSQL database") from error
    try:
        with engine.connect() as connection:
            if isinstance(found, Path):
                connection.exec_driver_sql("PRAGMA query_only=ON")
                connection.exec_driver_sql("BEGIN")
            yield connection
    finally:
        engine.dispose()


def _existing(path: Path) -> None:
    if not path.is_file():
        raise ConfigurationError("db", str(path), "is not there")


def _outdated(version: int | None) -> str:
    if version is None:
        return "is empty"
    return f"has schema {version}; a backend of this perfect brings it up to {SCHEMA_VERSION} when it starts"
