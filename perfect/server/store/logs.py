"""Queries on log lines. Each line of a run has a sequence number, from 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, insert, select

from perfect.server.store.statements import Prepared
from perfect.server.store.tables import log

_NAMES = ("run", "seq", "task", "stream", "level", "at", "text")
_INSERT = Prepared(insert(log).values({name: bindparam(name) for name in _NAMES}), _NAMES)

LogRow = Row[Any]


def insert_many(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Keep lines: (run, seq, task, stream, level, at, text)."""
    _INSERT.run(connection, rows)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines of a log.

    Args:
        task: of the task at that index.
        levels: of one of these levels.
        text: that contain this, in any letter case.
    """

    task: int | None = None
    levels: Sequence[str] | None = None
    text: str | None = None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """What is true of the rows that match."""
        if self.task is not None:
            yield log.c.task == self.task
        if self.levels is not None:
            yield log.c.level.in_(self.levels)
        if self.text is not None:
            yield log.c.text.icontains(self.text, autoescape=True)


EVERYTHING = Filter()


def page(
    connection: Connection, run_key: int, after: int, limit: int, wanted: Filter = EVERYTHING
) -> list[LogRow]:
    """At most ``limit`` lines that match, in order, with a sequence number above ``after``."""
    query = select(log).where(log.c.run == run_key, log.c.seq > after, *wanted.conditions())
    return list(connection.execute(query.order_by(log.c.seq).limit(limit)))


def places(
    connection: Connection, run_key: int, after: int, wanted: Filter, counted: int, every: int
) -> tuple[list[int], int]:
    """Where the pages of a filtered log begin, and how many lines above ``after`` match.

    Args:
        run_key: of that run.
        after: only lines with a sequence number above this.
        wanted: the lines that count.
        counted: how many lines match up to ``after``.
        every: lines of a page.

    Returns:
        The sequence numbers of each page's first line, and the number of lines.
    """
    matching = (log.c.run == run_key, log.c.seq > after, *wanted.conditions())
    numbered = (
        select(log.c.seq, func.row_number().over(order_by=log.c.seq).label("n"))
        .where(*matching)
        .subquery()
    )
    # the first is number 1
    begins = (numbered.c.n + (counted - 1)) % every == 0
    query = select(numbered.c.seq, numbered.c.n).where(begins).order_by(numbered.c.seq)
    found = connection.execute(query).all()
    last = found[-1].seq if found else after
    rest = select(func.count()).select_from(log).where(*matching, log.c.seq > last)
    count: int = connection.execute(rest).scalar_one()
    return [row.seq for row in found], (found[-1].n if found else 0) + count


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
