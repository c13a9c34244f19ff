"""What is old enough to go, and removing it piece by piece."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, and_, delete, func, or_, select

from perfect.server.store import runs
from perfect.server.store.tables import (
    audit,
    log,
    login,
    run,
    task,
    task_attempt,
    task_detail,
)
from perfect.states import TERMINAL

# whatever belongs to a run and can be long, with the column that counts it and how many rows one number may have
_PARTS = ((log, log.c.seq, 1), (task_attempt, task_attempt.c.idx, 100)) + tuple(
    (table, table.c.idx, 1) for table in (task_detail, task)
)
# A run whose client may still have something to say about it is not over, whatever its state.
_OVER = and_(run.c.settled == 1, run.c.state.in_(sorted(TERMINAL)))


def aged(connection: Connection, before: int, limit: int) -> list[int]:
    """Keys of runs that ended before then (ms since the epoch), the oldest first."""
    query = (
        select(run.c.key)
        # a run that ended before then began before then, and for that there is an index
        .where(run.c.at < before, _OVER, func.coalesce(run.c.ended, run.c.at) < before)
        .order_by(run.c.at, run.c.key)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def surplus(connection: Connection, keep: int, limit: int) -> list[int]:
    """Keys of runs that are over and not among the newest ``keep`` of their flow."""
    counts = select(run.c.flow_id).group_by(run.c.flow_id).having(func.count() > keep)
    found: list[int] = []
    for flow_id in connection.execute(counts).scalars():
        same = run.c.flow_id.is_(None) if flow_id is None else run.c.flow_id == flow_id
        newest = (
            select(run.c.at, run.c.key)
            .where(same)
            .order_by(run.c.at.desc(), run.c.key.desc())
            .offset(keep - 1)
            .limit(1)
        )
        last = connection.execute(newest).first()
        if last is None:
            continue
        query = (
            select(run.c.key)
            .where(same, _OVER)
            .where(or_(run.c.at < last.at, and_(run.c.at == last.at, run.c.key < last.key)))
            .order_by(run.c.at, run.c.key)
            .limit(limit - len(found))
        )
        found += connection.execute(query).scalars()
        if len(found) >= limit:
            break
    return found


def remove(connection: Connection, key: int, rows: int) -> tuple[int, str | None]:
    """Remove a run that is over, or a part of it.

    Args:
        connection: the writer's.
        key: of the run.
        rows: how many rows at most.

    Returns:
        How many rows it cost, and the run's id once it is gone; None while something is left of it.
    """
    row = connection.execute(
        select(run.c.id, run.c.tasks, run.c.lines).where(run.c.key == key, _OVER)
    ).first()
    if row is None:
        return 0, ""
    cost = 0
    if row.tasks + row.lines > rows:
        for table, column, each in _PARTS:
            cost += _cut(connection, table, column, key, max(1, rows // each))
            if cost >= rows:
                return cost, None
    runs.delete(connection, key)
    return cost + min(row.tasks + row.lines, rows) + 1, row.id


def _cut(connection: Connection, table: Table, column: Any, key: int, numbers: int) -> int:
    """Remove the first rows of a run from a table; returns how many."""
    first = connection.execute(select(func.min(column)).where(table.c.run == key)).scalar()
    if first is None:
        return 0
    statement = delete(table).where(table.c.run == key, column < first + numbers)
    return connection.execute(statement).rowcount


def remove_notes(connection: Connection, before: int, limit: int) -> int:
    """Remove audit entries, and logins last used, before then (ms since the epoch); returns how many entries."""
    oldest = list(
        connection.execute(select(audit.c.key, audit.c.at).order_by(audit.c.key).limit(limit))
    )
    gone = [row.key for row in oldest if row.at < before]
    if gone:
        connection.execute(delete(audit).where(audit.c.key.in_(gone)))
    connection.execute(delete(login).where(login.c.used < before))
    return len(gone)
