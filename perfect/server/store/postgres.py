"""PostgreSQL: one database, any number of backends, one of which writes at a time.

What SQLite gives by itself, one writer, is an advisory lock here: every writing transaction holds it. So the
engine's rules hold for several backends as for one, and what a backend remembers of the database is right until
another one has written, which the row ``last_writer`` of ``meta`` tells.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, event, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from perfect.errors import ConfigurationError, MissingExtra
from perfect.server.store import schema, watchers
from perfect.server.store.changes import Elsewhere
from perfect.server.store.database import Database
from perfect.server.store.signals import Signals
from perfect.server.store.statements import upsert
from perfect.server.store.tables import meta

# "perfect" in ASCII, cut to what fits: other programs on the same server take other numbers
_WRITING = 0x70657266656374
_STARTING = _WRITING + 1
_LAST_WRITER = "last_writer"
_LAST = select(meta.c.value).where(meta.c.name == _LAST_WRITER)
_CONNECT_SECONDS = 10
# s after which the server takes the writers' lock from one that holds it and does nothing (frozen, or its machine gone)
_STUCK = 30
# a peer that is gone without a word is noticed within a minute, not after hours
_ALIVE = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}


class PostgreSQL(Database):
    """An open PostgreSQL database.

    Args:
        url: with the driver psycopg.

    Raises:
        ConfigurationError: it can't be opened, or was written by a newer perfect.
        MissingExtra: psycopg is not installed.
    """

    shared = True

    def __init__(self, url: sa.URL) -> None:
        name = url.render_as_string()
        try:
            readers = _engine(url, pool_size=8, max_overflow=32, pool_pre_ping=True)
            limits = f"-c idle_in_transaction_session_timeout={_STUCK * 1000} " + " ".join(
                f"-c tcp_{name}={value}" for name, value in _ALIVE.items()
            )
            limited = url.update_query_dict({"options": limits}, append=False)
            writer = _engine(url if "options" in url.query else limited, poolclass=NullPool)
        except ImportError as error:
            raise MissingExtra("postgres", "a PostgreSQL database") from error
        snapshots = readers.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        super().__init__(name, snapshots, writer)
        self._me = str(uuid.uuid4())
        self._signals = Signals(url, self._me)
        try:
            with writer.begin() as connection:
                _lock(connection, _STARTING)
                schema.prepare(connection, name)
        except DBAPIError as error:
            self.close()
            raise ConfigurationError("db", name, str(error.orig).strip()) from error
        except BaseException:
            self.close()
            raise
        event.listen(writer, "begin", _one_at_a_time)

    def close(self) -> None:
        self._signals.close()
        super().close()

    def others_wrote(self, connection: Connection) -> Elsewhere | None:
        if connection.execute(_LAST).scalar() == self._me:
            return None
        statement = upsert(connection.dialect, meta).values(name=_LAST_WRITER, value=self._me)
        connection.execute(
            statement.on_conflict_do_update(index_elements=["name"], set_={"value": self._me})
        )
        return watchers.others(connection, self._me)

    def watch(self, connection: Connection, runs: Collection[int] | None) -> None:
        watchers.enter(connection, self._me, runs)

    def tell_at_commit(self, connection: Connection, word: str) -> None:
        self._signals.send_at_commit(connection, word)

    def listen(self, heard: Callable[[str], None]) -> None:
        self._signals.listen(heard)

    def tell(self, word: str) -> None:
        self._signals.send(word)

    def release(self, connection: Connection, pages: int) -> int:
        return 0  # autovacuum does


def _engine(url: sa.URL, **options: Any) -> sa.Engine:
    given = {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "perfect",
        **_ALIVE,
        **url.query,
    }
    engine = sa.create_engine(url, connect_args=given, **options)

    @event.listens_for(engine, "connect")
    def _adapt(dbapi_connection: Any, _record: Any) -> None:
        # truth is kept as 0 and 1, as in SQLite
        from psycopg.types.bool import BoolDumper

        class AsNumber(BoolDumper):
            oid = 21  # smallint

            def dump(self, obj: bool) -> bytes:
                return b"1" if obj else b"0"

        dbapi_connection.adapters.register_dumper(bool, AsNumber)

    return engine


def _lock(connection: Connection, number: int) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({number:d})")


def _one_at_a_time(connection: Connection) -> None:
    _lock(connection, _WRITING)
