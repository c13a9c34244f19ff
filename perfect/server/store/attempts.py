"""Queries on the attempts of tasks that ended and were followed by another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, select

from perfect.server.store.statements import upsert
from perfect.server.store.tables import task_attempt

# kept of one task; of a task that retries for days the oldest are dropped
MOST = 100

_NAMES = ("run", "idx", "attempt", "started", "ended", "error", "reason", "worker")

_same_task = task_attempt.alias()
_newest = (
    select(func.max(_same_task.c.attempt))
    .where(_same_task.c.run == bindparam("of_run"), _same_task.c.idx == bindparam("of_idx"))
    .scalar_subquery()
)
_DROP_OLDEST = delete(task_attempt).where(
    task_attempt.c.run == bindparam("of_run"),
    task_attempt.c.idx == bindparam("of_idx"),
    task_attempt.c.attempt <= _newest - MOST,
)

AttemptRow = Row[Any]


def insert_many(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Keep attempts: (run, idx, attempt, started, ended, error, reason, worker); one that is known stays as it is."""
    if not rows:
        return
    connection.execute(
        upsert(connection.dialect, task_attempt).on_conflict_do_nothing(),
        [dict(zip(_NAMES, row, strict=True)) for row in rows],
    )
    # attempts are counted from 1: no task has more than its highest number
    crowded = {(row[0], row[1]) for row in rows if row[2] > MOST}
    if crowded:
        connection.execute(_DROP_OLDEST, [{"of_run": r, "of_idx": i} for r, i in crowded])


def listed(connection: Connection, run_key: int, last: int, limit: int) -> list[AttemptRow]:
    """The first ``limit`` attempts of a run's tasks up to the index ``last``, in order of tasks and attempts."""
    query = (
        select(task_attempt)
        .where(task_attempt.c.run == run_key, task_attempt.c.idx <= last)
        .order_by(task_attempt.c.idx, task_attempt.c.attempt)
        .limit(limit)
    )
    return list(connection.execute(query))


def of_task(connection: Connection, run_key: int, idx: int) -> list[AttemptRow]:
    """The attempts of one task, in order."""
    query = select(task_attempt).where(task_attempt.c.run == run_key, task_attempt.c.idx == idx)
    return list(connection.execute(query.order_by(task_attempt.c.attempt)))
