"""The one writer: a thread that owns the writing connection and commits what has gathered in one go.

Jobs wait in a queue bounded by bytes. The thread takes all that are there, runs each inside a savepoint of one
transaction and commits once, so that many clients share the price of a commit (group commit) and SQLite never
sees two writers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from perfect.server.store import changes

T = TypeVar("T")

_MAX_GROUP = 64


class Overloaded(Exception):
    """The queue is full; the client should come back later."""


class StoreFailed(Exception):
    """The database would not take it (disk full, file gone, locked by another program)."""


class KeepsNothing(Exception):
    """Base of the refusals a job may raise before it has changed anything."""


class Transaction:
    """What a job works with: the connection, and what is to happen once everything is committed."""

    __slots__ = ("connection", "_callbacks")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._callbacks: list[Callable[[], None]] = []

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the writer thread after the commit; it must not block or raise."""
        self._callbacks.append(callback)

    def committed(self) -> None:
        for callback in self._callbacks:
            callback()


class Others(Protocol):
    """The other backends on the database; asked on the writer's thread."""

    def wrote(self, connection: Connection) -> changes.Elsewhere | None:
        """At the start of a transaction: what they watch, if one of them has written since the last one, else None.

        Then, too, what was remembered of the database may be wrong.
        """

    def tell_of(self, connection: Connection, changed: changes.Changes) -> None:
        """At its end: let those who watch know what it changed, if and when it is committed."""


_Job = tuple[Callable[[Transaction], Any], "Future[Any]", int]


class Writer:
    """Runs jobs one after another on the only connection that writes.

    Args:
        connect: opens the writing connection; called on the writer's own thread.
        max_bytes: how many bytes of jobs may wait.
        forget: called when something was rolled back: what was remembered of the database may be wrong now.
        tell: called on the writer's thread after a commit with what changed, while ``watch`` is on.
        others: the other backends on this database, if there may be any.

    Attributes:
        watch: what somebody wants to be told of.
        commits: how many there were.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        max_bytes: int,
        forget: Callable[[], None],
        tell: Callable[[changes.Changes], None] | None = None,
        others: Others | None = None,
    ) -> None:
        self.watch = changes.Watch()
        self.commits = 0
        self._tell = tell
        self._others = others
        self._connect = connect
        self._max_bytes = max_bytes
        self._forget = forget
        self._jobs: deque[_Job] = deque()
        self._waiting_bytes = 0
        self._ready = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="perfect-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread is there to run jobs."""
        return self._thread.is_alive() and not self._closing

    @property
    def waiting(self) -> tuple[int, int]:
        """How many jobs wait, and how many bytes they hold."""
        with self._ready:
            return len(self._jobs), self._waiting_bytes

    def submit(self, job: Callable[[Transaction], T], size: int = 0) -> Future[T]:
        """Queue a job; its future resolves after the commit.

        Args:
            job: does its work through the transaction it is given.
            size: bytes it holds while it waits.

        Raises:
            Overloaded: too much is waiting already.
        """
        future: Future[T] = Future()
        with self._ready:
            if self._closing:
                raise Overloaded("the backend is shutting down")
            # a job larger than the whole bound is taken when it is alone, or it never would be
            if size and self._waiting_bytes and self._waiting_bytes + size > self._max_bytes:
                raise Overloaded("too much is waiting to be stored")
            self._waiting_bytes += size
            self._jobs.append((job, future, size))
            if len(self._jobs) == 1:
                self._ready.notify()
        return future

    def _run(self) -> None:
        connection: Connection | None = None
        while group := self._take():
            try:
                if connection is None:
                    connection = self._connect()
                self._commit(connection, group)
            except Exception as error:  # whatever the driver raises: every waiter must hear of it
                self._forget()
                for _, future, _ in group:
                    if not future.done():
                        future.set_exception(store_failed(error))
                if connection is not None:
                    connection.invalidate()
                    connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _take(self) -> list[_Job]:
        with self._ready:
            while not self._jobs and not self._closing:
                self._ready.wait()
            group = [self._jobs.popleft() for _ in range(min(_MAX_GROUP, len(self._jobs)))]
            self._waiting_bytes -= sum(size for _, _, size in group)
        return group

    def _commit(self, connection: Connection, group: list[_Job]) -> None:
        done: list[tuple[Future[Any], Any, Transaction]] = []
        changed = changes.Changes(self.watch)
        # one job alone needs no savepoint, which costs as much as several statements
        alone = len(group) == 1
        with connection.begin() as whole:
            if self._others is not None:
                elsewhere = self._others.wrote(connection)
                if elsewhere is not None:
                    self._forget()
                    self.watch.elsewhere = elsewhere
            for job, future, _ in group:
                if not future.set_running_or_notify_cancel():
                    continue
                transaction = Transaction(connection)
                noted = changes.begin(connection, self.watch)
                try:
                    with nullcontext() if alone else connection.begin_nested():
                        result = job(transaction)
                except KeepsNothing as refusal:
                    if alone:
                        whole.rollback()
                    future.set_exception(refusal)
                except Exception as error:
                    if isinstance(error, DBAPIError) and error.connection_invalidated:
                        raise  # nothing of the whole group will be
                    # the savepoint is rolled back; the neighbours in this transaction are not
                    if alone:
                        whole.rollback()
                    self._forget()
                    future.set_exception(error)
                else:
                    done.append((future, result, transaction))
                    if noted is not None:
                        changed.add(noted)
            if changed and self._others is not None and self.watch.elsewhere.on:
                self._others.tell_of(connection, changed)
        self.commits += 1
        if changed and self._tell is not None and self.watch.on:
            self._tell(changed)
        for future, result, transaction in done:
            transaction.committed()
            future.set_result(result)


def store_failed(error: Exception) -> StoreFailed:
    """What the driver raised, as the engine hears of it."""
    failure = StoreFailed(f"the database would not take it: {getattr(error, 'orig', error)}")
    failure.__cause__ = error
    return failure
