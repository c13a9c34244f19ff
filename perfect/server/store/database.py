"""An open database, whatever it is: connections of readers, and the writer's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError

from perfect.server.store.changes import Elsewhere
from perfect.server.store.writer import store_failed


class Database(ABC):
    """An open database; made by `open_database`.

    Attributes:
        name: how it is called in messages, without a password.
        shared: other backends may have it open at the same time.
    """

    shared = False

    def __init__(self, name: str, readers: sa.Engine, writer: sa.Engine) -> None:
        self.name = name
        self._readers = readers
        self._writer = writer

    @property
    def dialect(self) -> sa.Dialect:
        """What SQL is compiled for."""
        return self._writer.dialect

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one snapshot until it is closed.

        Raises:
            StoreFailed: the database can't be reached.
        """
        try:
            with self._readers.connect() as connection:
                yield connection
        except (OperationalError, InterfaceError) as error:
            raise store_failed(error) from error

    def connect_writer(self) -> Connection:
        """The connection for the writer; there must be one at a time."""
        return self._writer.connect()

    def close(self) -> None:
        """Close every connection."""
        self._readers.dispose()
        self._writer.dispose()

    def others_wrote(self, connection: Connection) -> Elsewhere | None:
        """What the other backends watch, if one of them has written since this one last asked; else None.

        Asked at the start of each transaction of the writer.
        """
        return None

    def watch(self, connection: Connection, runs: Collection[int] | None) -> None:
        """Have the others tell, from their next transaction on, what they change; for 30 s.

        Args:
            connection: the writer's, in a transaction.
            runs: keys of the runs of which every task is watched; None ends it.
        """

    def tell_at_commit(self, connection: Connection, word: str) -> None:
        """As `tell`, when what the transaction has changed can be seen, and only if it ever can."""

    def listen(self, heard: Callable[[str], None]) -> None:
        """Call ``heard``, on a thread of its own, with what other backends on this database `tell`.

        It is called with `MISSED` where words may have been lost, and when it begins to listen.
        """

    def tell(self, word: str) -> None:
        """Let the other backends on this database know; from whatever thread, never blocks."""

    @abstractmethod
    def release(self, connection: Connection, pages: int) -> int:
        """Give the space of removed rows back to the file system, at most so much at once.

        Args:
            connection: the writer's, in a transaction.
            pages: how many pages at most.

        Returns:
            How many pages may still be given back.
        """
