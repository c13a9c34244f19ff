"""Undelivered events on disk: one SQLite file for each session and backend.

The process that holds a spool's lock, and nobody else, writes and delivers it. The lock ends with the process,
so the next one can take over what a killed one left. A SIGKILL loses nothing that was committed.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from time import time


from perfect.events import LOG, PROGRESS, Event, lost_lines

FOLDER = "spool"
LARGEST = 256 << 20  # bytes, of all spools of a home together
SHED_AT_ONCE = 1000  # events

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY, kind INTEGER NOT NULL, run TEXT NOT NULL, text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS event_kind ON event (kind, seq) WHERE kind < 2;
CREATE TABLE IF NOT EXISTS lost (run TEXT PRIMARY KEY, seq INTEGER NOT NULL, lines INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class SpoolFailed(Exception):
    """The spool can't be used: the disk is full, read-only or missing. Never leaves the sender."""


class Spool:
    """One session's file.

    Args:
        home: PERFECT_HOME; made with mode 0700.
        session: whose events they are.
        about: what another process needs to deliver them: "backend_url", "client_id".
        largest: bytes that all spools of the home may take together.

    Raises:
        SpoolFailed: it can't be opened.
        BlockingIOError: another process holds its lock.
    """

    def __init__(
        self,
        home: str,
        session: str,
        about: dict[str, str] | None = None,
        *,
        largest: int = LARGEST,
    ) -> None:
        self.session = session
        self.path = os.path.join(home, FOLDER, f"{session}.db")
        self._folder = os.path.dirname(self.path)
        self._largest = largest
        self._lock: int | None = None
        self._database: sqlite3.Connection | None = None
        try:
            os.makedirs(home, mode=0o700, exist_ok=True)
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._lock).st_ino != os.stat(f"{self.path}.lock").st_ino:
                # Delivered and removed between the opening and the locking.
                raise BlockingIOError(f"{self.path} is somebody else's")
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            # Used by the sender's thread only, but closed by whoever closes the session.
            self._database = sqlite3.connect(
                self.path, timeout=1.0, isolation_level=None, check_same_thread=False
            )
            self._database.executescript(
                f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_SCHEMA}"
            )
            for name, value in (about or {}).items():
                self._database.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))
            (self.count,) = self._database.execute("SELECT count(*) FROM event").fetchone()
        except BlockingIOError:
            self.close(keep=True)
            raise
        except (OSError, sqlite3.Error) as error:
            self.close(keep=True)
            raise SpoolFailed(str(error)) from error

    # --- writing -----------------------------------------------------------------------------

    def append(self, events: list[Event], notes: dict[str, str] | None = None) -> None:
        """Write events, and notes about their runs, for good. Where there is no room, progress and then the oldest lines are given up.

        Raises:
            SpoolFailed: nothing was written.
        """
        needed = sum(len(event.text) + 80 for event in events)
        try:
            database = self._open()
            if self._others() + self._used() + needed > self._largest:
                self._shed(needed)
            database.execute("BEGIN IMMEDIATE")
            try:
                database.executemany("INSERT OR REPLACE INTO event VALUES (?, ?, ?, ?)", events)
                database.executemany(
                    "INSERT OR REPLACE INTO about VALUES (?, ?)", (notes or {}).items()
                )
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
            self.count += len(events)
        except (OSError, sqlite3.Error) as error:
            raise SpoolFailed(str(error)) from error

    def settle(self, seq: int) -> None:
        """Forget the events up to a number: the backend has them.

        Raises:
            SpoolFailed: they are still there.
        """
        try:
            database = self._open()
            self.count -= database.execute("DELETE FROM event WHERE seq <= ?", (seq,)).rowcount
            database.execute("DELETE FROM lost WHERE seq <= ?", (seq,))
        except (OSError, sqlite3.Error) as error:
            raise SpoolFailed(str(error)) from error

    def _shed(self, needed: int) -> None:
        """Give up progress, then the oldest lines, until there is room or nothing more to give up."""
        database = self._open()
        for kind in (PROGRESS, LOG):
            while self._others() + self._used() + needed > self._largest:
                doomed = database.execute(
                    "SELECT seq, run FROM event WHERE kind = ? ORDER BY seq LIMIT ?",
                    (kind, SHED_AT_ONCE),
                ).fetchall()
                if not doomed:
                    break
                database.execute("BEGIN IMMEDIATE")
                database.execute(
                    "DELETE FROM event WHERE kind = ? AND seq <= ?", (kind, doomed[-1][0])
                )
                if kind == LOG:
                    for run in {run for _, run in doomed}:
                        lines = [seq for seq, its in doomed if its == run]
                        self._mark_lost(run, lines[-1], len(lines))
                database.execute("COMMIT")
        (self.count,) = database.execute("SELECT count(*) FROM event").fetchone()

    def _mark_lost(self, run: str, seq: int, lines: int) -> None:
        """Put one marker where lines of a run were given up, in place of an earlier one."""
        database = self._open()
        before = database.execute("SELECT seq, lines FROM lost WHERE run = ?", (run,)).fetchone()
        if before is not None:
            database.execute("DELETE FROM event WHERE seq = ?", (before[0],))
            lines += before[1]
        database.execute("INSERT OR REPLACE INTO lost VALUES (?, ?, ?)", (run, seq, lines))
        database.execute("INSERT INTO event VALUES (?, ?, ?, ?)", lost_lines(run, seq, lines))

    def _used(self) -> int:
        """Bytes of this file that hold something."""
        database = self._open()
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

    def _others(self) -> int:
        """Bytes of the other spools."""
        return sum(size for name, size in _sizes(self._folder) if not name.startswith(self.session))

    # --- reading -----------------------------------------------------------------------------

    def head(self, most: int, largest: int) -> list[Event]:
        """The oldest events: at most so many, and so many bytes (but one at least).

        Raises:
            SpoolFailed: they can't be read.
        """
        found: list[Event] = []
        size = 0
        try:
            rows = self._open().execute(
                "SELECT seq, kind, run, text FROM event ORDER BY seq LIMIT ?", (most,)
            )
            for row in rows:
                size += len(row[3])
                if found and size > largest:
                    break
                found.append(Event(*row))
        except (OSError, sqlite3.Error) as error:
            raise SpoolFailed(str(error)) from error
        return found

    def about(self) -> dict[str, str]:
        """What was noted for whoever delivers it."""
        return dict(self._open().execute("SELECT name, value FROM about"))

    # --- the end -----------------------------------------------------------------------------

    def close(self, *, keep: bool = False) -> None:
        """Close the file, give the lock back, and remove the file if nothing is in it.

        Args:
            keep: leave the file in any case.
        """
        database, self._database = self._database, None
        if database is not None:
            if not keep and self.count == 0:
                for suffix in ("", "-wal", "-shm"):
                    _remove(self.path + suffix)
                database.close()
                for suffix in ("-wal", "-shm", ".lock"):
                    _remove(self.path + suffix)
            else:
                try:
                    database.close()
                except sqlite3.Error:
                    pass
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def forget_lock(self) -> None:
        """In a forked child: a lock lasts until every process that inherited it has let go."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise SpoolFailed("it is closed")
        return self._database


@dataclass(frozen=True)
class Left:
    """A spool that lies in a home.

    Attributes:
        events: how many wait in it.
        size: bytes of its files.
        age: s since it was last written.
        busy: whether a living process holds it.
    """

    session: str
    backend_url: str
    client_id: str
    events: int
    size: int
    age: float
    busy: bool


def spools(home: str) -> list[Left]:
    """Every spool of a home, oldest first."""
    folder = os.path.join(home, FOLDER)
    found = []
    for session in sorted({name.split(".")[0] for name, _ in _sizes(folder)}):
        path = os.path.join(folder, f"{session}.db")
        if not os.path.exists(path):
            continue
        try:
            database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)
            try:
                (events,) = database.execute("SELECT count(*) FROM event").fetchone()
                about = dict(database.execute("SELECT name, value FROM about"))
            finally:
                database.close()
            age = time() - os.stat(path).st_mtime
        except (OSError, sqlite3.Error):  # delivered and removed meanwhile, or no spool at all
            continue
        size = sum(size for name, size in _sizes(folder) if name.startswith(session))
        found.append(
            Left(
                session,
                about.get("backend_url", ""),
                about.get("client_id", ""),
                events,
                size,
                max(0.0, age),
                _is_locked(path),
            )
        )
    return sorted(found, key=lambda left: -left.age)


def orphans(home: str, backend_url: str, own_session: str) -> Iterator[Spool]:
    """The spools that dead processes left for a backend, each locked for this process; close them."""
    for left in spools(home):
        if left.session == own_session or left.busy or left.backend_url != backend_url:
            continue
        try:
            spool = Spool(home, left.session)
        except (BlockingIOError, SpoolFailed):  # another process was quicker
            continue
        yield spool


def _is_locked(path: str) -> bool:
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(lock)


def _sizes(folder: str) -> list[tuple[str, int]]:
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    found.append((entry.name, entry.stat().st_size))
                except OSError:  # delivered and removed meanwhile
                    pass
    except OSError:
        pass
    return found


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
