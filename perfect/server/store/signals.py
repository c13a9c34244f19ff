"""Words between the backends on one PostgreSQL: LISTEN and NOTIFY, each on a connection of its own.

A word that is lost (a connection broke) costs time, never a run: what it announced stands in the tables, and
every backend looks there regularly.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

_log = logging.getLogger(__name__)

_CHANNEL = "perfect"
_LOOK = 0.5  # s between two looks whether to end
_AGAIN = 2.0  # s between two attempts to connect
_PATIENCE = 5.0  # s that the start waits for the first connection
_MOST = 10_000  # words that may wait; beyond, they are dropped
# bytes of a word; a NOTIFY takes 8,000, with the name of who says it
LONGEST = 7_900
# heard instead of the words that nobody heard
MISSED = '["missed"]'
_NOTIFY = "SELECT pg_notify(%s, %s)"


class Signals:
    """What one backend tells the others.

    Args:
        url: of the database.
        me: this backend's name; its own words are not heard.
    """

    def __init__(self, url: sa.URL, me: str) -> None:
        self._url = url
        self._me = me
        self._words: queue.Queue[str | None] = queue.Queue(_MOST)
        self._closing = threading.Event()
        self._hears = threading.Event()
        self._threads: list[threading.Thread] = []

    def listen(self, heard: Callable[[str], None]) -> None:
        """Begin; ``heard`` is called on a thread of its own. Returns when nothing is missed, if that is soon."""
        for name, work in (
            ("perfect-ear", lambda connection: self._hear(connection, heard)),
            ("perfect-mouth", self._speak),
        ):
            thread = threading.Thread(target=self._keep, args=(name, work), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._hears.wait(_PATIENCE)

    def send(self, word: str) -> None:
        """Tell the others; never blocks."""
        if self._threads and len(word.encode()) <= LONGEST:
            try:
                self._words.put_nowait(word)
            except queue.Full:
                pass

    def send_at_commit(self, connection: sa.Connection, word: str) -> None:
        """Tell the others when, and only if, the open transaction is committed."""
        connection.exec_driver_sql(_NOTIFY, (_CHANNEL, f"{self._me} {word}"))

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        for thread in self._threads:
            thread.join()

    def _keep(self, name: str, work: Callable[[Any], None]) -> None:
        engine = sa.create_engine(self._url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        said = False
        while not self._closing.is_set():
            try:
                with engine.connect() as connection:
                    if said:
                        said = False
                        _log.warning("%s: words between backends again", name)
                    try:
                        work(connection.connection.driver_connection)
                    except Exception:
                        connection.invalidate()  # the driver is not asked to put it in order
                        raise
            except Exception as error:  # whatever the driver raises: try again
                if not self._closing.is_set() and not said:
                    said = True
                    _log.warning("%s: no word between backends for now: %s", name, error)
            self._closing.wait(_AGAIN)

    def _hear(self, connection: Any, heard: Callable[[str], None]) -> None:
        connection.execute(f"LISTEN {_CHANNEL}")
        heard(MISSED)
        self._hears.set()
        while not self._closing.is_set():
            for notice in connection.notifies(timeout=_LOOK):
                sender, _, word = notice.payload.partition(" ")
                if sender != self._me:
                    heard(word)

    def _speak(self, connection: Any) -> None:
        while not self._closing.is_set():
            try:
                word = self._words.get(timeout=_LOOK)
            except queue.Empty:
                continue
            connection.execute(_NOTIFY, (_CHANNEL, f"{self._me} {word}"))
