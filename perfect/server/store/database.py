"""Opening the database: one file, one lock, readers' connections and the writer's."""

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
from perfect.server.store.tables import SCHEMA_VERSION, flow, meta, metadata

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA busy_timeout=10000",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-16384",
    "PRAGMA wal_autocheckpoint=4000",
)


class Database:
    """An open database.

    Args:
        where: path of the SQLite file, or a ``sqlite:///`` URL.

    Raises:
        ConfigurationError: it can't be opened: not writable, not a database, in use by another backend, or
            written by a newer perfect.
    """

    def __init__(self, where: str | os.PathLike[str]) -> None:
        self.path = _path(where)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _lock(self.path)
            # SQLite gives its side files the mode of the database: logs are nobody else's business
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise ConfigurationError("db", str(self.path), error.strerror or str(error)) from error
        url = sa.URL.create("sqlite", database=str(self.path))
        arguments = {"isolation_level": None, "check_same_thread": False}
        self._readers = sa.create_engine(url, connect_args=arguments, pool_size=8, max_overflow=32)
        self._writer = sa.create_engine(url, connect_args=arguments, poolclass=NullPool)
        # the driver is told to leave transactions alone, so BEGIN is ours to say
        _on_connect(self._readers, "BEGIN")
        _on_connect(self._writer, "BEGIN IMMEDIATE")
        try:
            self._prepare()
        except DBAPIError as error:
            self.close()
            raise ConfigurationError("db", str(self.path), str(error.orig)) from error
        except ConfigurationError:
            self.close()
            raise

    @property
    def dialect(self) -> sa.Dialect:
        """What SQL is compiled for."""
        return self._writer.dialect

    def read(self) -> Connection:
        """A connection that sees one snapshot until it is closed; use it as a context manager."""
        return self._readers.connect()

    def connect_writer(self) -> Connection:
        """The connection for the writer; there must be one at a time."""
        return self._writer.connect()

    def close(self) -> None:
        """Close every connection and let go of the file."""
        self._readers.dispose()
        self._writer.dispose()
        os.close(self._lock)

    def _prepare(self) -> None:
        with self._writer.begin() as connection:
            known = sa.inspect(connection).has_table(meta.name)
            version = (
                connection.execute(
                    sa.select(meta.c.value).where(meta.c.name == "schema_version")
                ).scalar()
                if known
                else None
            )
            if version is None:
                metadata.create_all(connection)
                connection.execute(
                    meta.insert().values(name="schema_version", value=str(SCHEMA_VERSION))
                )
            elif int(version) > SCHEMA_VERSION:
                raise ConfigurationError(
                    "db",
                    str(self.path),
                    f"was written by a newer perfect (schema {version}, this one knows {SCHEMA_VERSION})",
                )
            elif int(version) < SCHEMA_VERSION:
                _upgrade(connection)


def _upgrade(connection: Connection) -> None:
    """From version 1, which had no attempts and did not check edges: clients register theirs anew."""
    metadata.create_all(connection)
    connection.execute(flow.update().values(edges=None))
    connection.execute(
        meta.update().where(meta.c.name == "schema_version").values(value=str(SCHEMA_VERSION))
    )


def _path(where: str | os.PathLike[str]) -> Path:
    text = os.fspath(where)
    if "://" in text:
        url = sa.make_url(text)
        if url.get_backend_name() != "sqlite" or not url.database:
            raise ConfigurationError("db", text, "is neither a path nor a sqlite:/// URL")
        text = url.database
    return Path(text).expanduser().absolute()


def _lock(path: Path) -> int:
    """Hold the lock beside the database: two backends on one SQLite file would not see each other's runs."""
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise ConfigurationError("db", str(path), "is in use by another backend") from None
    return handle


def _on_connect(engine: sa.Engine, begin: str) -> None:
    @event.listens_for(engine, "connect")
    def _pragmas(dbapi_connection: Any, _record: Any) -> None:
        cursor = dbapi_connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
