"""Queries on log lines. Each line of a run has a sequence number, from 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select

from perfect.server.store.statements import Prepared
from perfect.server.store.tables import log

_NAMES = ("run", "seq", "task", "stream", "level", "at", "text")
_INSERT = Prepared(insert(log).values({name: bindparam(name) for name in _NAMES}), _NAMES)

LogRow = Row[Any]


def insert_many(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Keep lines: (run, seq, task, stream, level, at, text)."""
    _INSERT.run(connection, rows)


def page(
    connection: Connection,
    run_key: int,
    after: int,
    limit: int,
    *,
    task: int | None = None,
    level: str | None = None,
    text: str | None = None,
) -> list[LogRow]:
    """Lines that match, in order.

    Args:
        run_key: of that run.
        after: with a sequence number above this.
        limit: how many at most.
        task: of the task at that index.
        level: of that level.
        text: that contain this, in any letter case.
    """
    query = select(log).where(log.c.run == run_key, log.c.seq > after)
    if task is not None:
        query = query.where(log.c.task == task)
    if level is not None:
        query = query.where(log.c.level == level)
    if text is not None:
        query = query.where(log.c.text.icontains(text, autoescape=True))
    return list(connection.execute(query.order_by(log.c.seq).limit(limit)))


def between(connection: Connection, run_key: int, first: int, last: int) -> Iterator[LogRow]:
    """Lines from one sequence number to another, a thousand at a time."""
    while first <= last:
        rows = page(connection, run_key, first - 1, min(1_000, last - first + 1))
        if not rows or rows[0].seq > last:
            return
        yield from (row for row in rows if row.seq <= last)
        first = rows[-1].seq + 1


def tail(connection: Connection, run_key: int, limit: int) -> list[LogRow]:
    """The last lines of a run, in order."""
    query = select(log).where(log.c.run == run_key).order_by(log.c.seq.desc()).limit(limit)
    return list(connection.execute(query))[::-1]
