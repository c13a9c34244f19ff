"""The files that the example workflows share: where they are and how they are written."""

from __future__ import annotations

import csv
import io
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from perfect.session import get_session


def workspace(folder: str | None = None) -> Path:
    """The folder to work in, made if it is not there.

    Args:
        folder: default: ``examples`` in perfect's home (``PERFECT_HOME``, else ``~/.perfect``).
    """
    if folder is not None:
        path = Path(folder).expanduser()
    else:
        home = Path(get_session().settings.home)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = home / "examples"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def put(path: Path, content: str | bytes) -> None:
    """Write a file as a whole: whoever reads it meanwhile gets the former one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def as_csv(rows: Iterable[Sequence[object]]) -> str:
    """Rows as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def warehouse_path(folder: Path) -> Path:
    """The SQLite warehouse of a workspace."""
    return folder / "warehouse.db"


@contextmanager
def open_warehouse(folder: Path, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the warehouse: to write, in one transaction that a failure undoes; else only to read.

    Raises:
        sqlite3.OperationalError: it is only to be read and not there.
    """
    uri = f"{warehouse_path(folder).as_uri()}?mode={'rwc' if write else 'ro'}"
    database = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        yield database
        database.execute("COMMIT")
    finally:
        database.close()  # a transaction that was not committed is undone


def euros(cents: int) -> str:
    """An amount as people read it: ``12,345.60``."""
    return f"{cents / 100:,.2f}"
