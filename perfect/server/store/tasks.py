"""Queries on the tasks of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Float,
    Integer,
    Row,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)

from perfect.server.store import changes
from perfect.server.store.statements import Prepared, upsert
from perfect.server.store.tables import run, task, task_attempt, task_detail
from perfect.states import TaskState

_OPEN = (TaskState.RUNNING.value, TaskState.RETRYING.value)

# what is written about a task, in this order; INSERTED rows need every value, in UPDATED ones None keeps the old
WRITTEN = (
    "name",
    "state",
    "attempt",
    "started",
    "ended",
    "duration",
    "estimate",
    "weight",
    "crucial",
    "progress",
    "map_index",
    "upstream",
    "reason",
)

_INSERTED = ("run", "idx", *WRITTEN, "inferred", "slow")
_INSERT = Prepared(insert(task).values({name: bindparam(name) for name in _INSERTED}), _INSERTED)


_inferred = task.c.inferred == literal_column("1")
_waited = task.c.state.in_(
    [literal_column(f"'{state.value}'") for state in (TaskState.PENDING, TaskState.RETRYING)]
)
# of a row that says nothing of attempts this is NULL, which counts as false
_next_attempt = bindparam("attempt", type_=Integer) > task.c.attempt
# When a column does not keep what it has although nothing new is said: what was inferred from silence, what was
# told of an earlier attempt, and why the task had to wait, is over.
_OVER = {
    "started": _next_attempt,
    "ended": _inferred,
    "duration": _inferred,
    "progress": or_(_inferred, _waited, _next_attempt),
    "reason": or_(_inferred, _waited),
}


def _kept(name: str) -> Any:
    """What a column keeps when nothing new is said."""
    column = task.c[name]
    return case((_OVER[name], null()), else_=column) if name in _OVER else column


# an end may come without the start that was told before
_since_start = bindparam("until", type_=BigInteger) - _kept("started")
# parameters that a column's expression needs beside the column's own
_REPEATED = {"started": ("attempt",), "duration": ("until", "attempt"), "progress": ("attempt",)}
_UPDATE = Prepared(
    update(task)
    .where(task.c.run == bindparam("of_run"), task.c.idx == bindparam("of_idx"))
    .values(
        {
            name: func.coalesce(bindparam(name, type_=task.c[name].type), _kept(name))
            for name in WRITTEN
        }
        | {
            "duration": func.coalesce(
                bindparam("duration", type_=BigInteger), _since_start, _kept("duration")
            )
        }
        | {"inferred": 0}
    ),
    tuple(name for written in WRITTEN for name in (written, *_REPEATED.get(written, ())))
    + ("inferred", "of_run", "of_idx"),
)

_WITH_DETAILS = select(task, task_detail.c.result, task_detail.c.error).join_from(
    task,
    task_detail,
    (task_detail.c.run == task.c.run) & (task_detail.c.idx == task.c.idx),
    isouter=True,
)

_float_duration = cast(task.c.duration, Float)

TaskRow = Row[Any]


def insert_many(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Keep new tasks: (run, idx, …as WRITTEN, inferred, slow)."""
    _INSERT.run(connection, rows)
    changes.tasks(connection, ((row[0], row[1]) for row in rows))


def update_many(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Change tasks: (…as WRITTEN, 0, run, idx).

    Some values stand there more than once: the attempt again after the start, the end and the attempt after the
    duration, and the attempt after the progress.
    """
    _UPDATE.run(connection, rows)
    changes.tasks(connection, ((row[-2], row[-1]) for row in rows))


def save_details(
    connection: Connection, rows: Sequence[tuple[int, int, str | None, str | None]]
) -> None:
    """Keep results and errors: (run, idx, result, error); None keeps what is there."""
    if not rows:
        return
    statement = upsert(connection.dialect, task_detail)
    excluded = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["run", "idx"],
        set_={
            name: func.coalesce(excluded[name], task_detail.c[name]) for name in ("result", "error")
        },
    )
    connection.execute(
        statement, [{"run": r, "idx": i, "result": v, "error": e} for r, i, v, e in rows]
    )


def states(connection: Connection, run_key: int) -> list[tuple[int, str, int]]:
    """(idx, state, inferred) of every task of a run."""
    query = select(task.c.idx, task.c.state, task.c.inferred).where(task.c.run == run_key)
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def one(connection: Connection, run_key: int, idx: int) -> TaskRow | None:
    """A task."""
    return connection.execute(select(task).where(task.c.run == run_key, task.c.idx == idx)).first()


def listed(connection: Connection, run_key: int, after: int = -1, limit: int = -1) -> list[TaskRow]:
    """Tasks of a run with their results and errors, in order of their calls."""
    query = _WITH_DETAILS.where(task.c.run == run_key, task.c.idx > after).order_by(task.c.idx)
    if limit >= 0:
        query = query.limit(limit)
    return list(connection.execute(query))


def at(connection: Connection, run_key: int, indices: Sequence[int]) -> list[TaskRow]:
    """The tasks at these positions with their results and errors, in order."""
    query = _WITH_DETAILS.where(task.c.run == run_key, task.c.idx.in_(indices))
    return list(connection.execute(query.order_by(task.c.idx)))


def trim(connection: Connection, run_key: int, count: int) -> None:
    """Remove the tasks that were never called: those at ``count`` and beyond."""
    for table in (task, task_detail, task_attempt):
        connection.execute(table.delete().where(table.c.run == run_key, table.c.idx >= count))


def close_open(
    connection: Connection, run_key: int, state: str, reason: str, now: int, inferred: bool
) -> None:
    """End the tasks that are still running."""
    _note(connection, run_key, task.c.state.in_(_OPEN))
    # the client's clock may be ahead of ours
    ended = case((task.c.started > now, task.c.started), else_=now)
    connection.execute(
        update(task)
        .where(task.c.run == run_key, task.c.state.in_(_OPEN))
        .values(
            state=state,
            reason=reason,
            ended=ended,
            duration=ended - func.coalesce(task.c.started, ended),
            inferred=int(inferred),
        )
    )


def cancel_pending(connection: Connection, run_key: int, reason: str, inferred: bool) -> None:
    """The tasks that had not begun when their run ended will not."""
    _note(connection, run_key, task.c.state == TaskState.PENDING.value)
    connection.execute(
        update(task)
        .where(task.c.run == run_key, task.c.state == TaskState.PENDING.value)
        .values(state=TaskState.CANCELLED.value, reason=reason, inferred=int(inferred))
    )


def _note(connection: Connection, run_key: int, *conditions: Any) -> None:
    """These tasks of the run are about to change."""
    if changes.watching(connection, run_key):
        query = select(task.c.run, task.c.idx).where(task.c.run == run_key, *conditions)
        changes.tasks(connection, [(row[0], row[1]) for row in connection.execute(query)])


def any_crucial_failed(connection: Connection, run_key: int) -> bool:
    """Whether a crucial task of the run has failed."""
    query = select(task.c.idx).where(
        task.c.run == run_key, task.c.state == TaskState.FAILED.value, task.c.crucial == 1
    )
    return connection.execute(query.limit(1)).first() is not None


def any_unfinished(connection: Connection, run_key: int) -> bool:
    """Whether a task of the run is not terminal."""
    query = select(task.c.idx).where(
        task.c.run == run_key, task.c.state.in_((*_OPEN, TaskState.PENDING.value))
    )
    return connection.execute(query.limit(1)).first() is not None


def sums(connection: Connection, run_keys: Sequence[int]) -> list[Row[Any]]:
    """Per run what its progress is made of: the sums of weights and estimates, alone and times progress."""
    done = func.coalesce(
        case(
            (task.c.state.in_((TaskState.COMPLETED.value, TaskState.SKIPPED.value)), 100.0),
            (
                task.c.state.in_((TaskState.FAILED.value, TaskState.CANCELLED.value)),
                task.c.progress,
            ),
            else_=0.0,
        ),
        0.0,
    )
    query = (
        select(
            task.c.run,
            func.count().label("tasks"),
            func.count(task.c.weight).label("weighted"),
            func.sum(task.c.weight).label("weight"),
            # as floats: so many large integers would overflow
            func.sum(cast(task.c.estimate, Float)).label("estimate"),
            func.sum(done).label("done"),
            func.sum(task.c.weight * done).label("weight_done"),
            func.sum(task.c.estimate * done).label("estimate_done"),
        )
        .where(task.c.run.in_(run_keys))
        .group_by(task.c.run)
    )
    return list(connection.execute(query))


def running(connection: Connection, run_keys: Sequence[int]) -> list[TaskRow]:
    """The tasks of these runs that are under way."""
    query = select(task).where(task.c.run.in_(run_keys), task.c.state.in_(_OPEN))
    return list(connection.execute(query))


def durations(connection: Connection, run_key: int) -> list[tuple[str, int, float, float, int]]:
    """Per name of the completed tasks: name, how many, sum of durations, of their squares, and the longest.

    Tasks whose result came from a cache, or that only stand for the tasks they were mapped to, did no work.
    """
    reason = func.lower(func.coalesce(task.c.reason, ""))
    query = (
        select(
            task.c.name,
            func.count(),
            func.sum(_float_duration),
            func.sum(_float_duration * _float_duration),
            func.max(task.c.duration),
        )
        .where(
            task.c.run == run_key,
            task.c.state == TaskState.COMPLETED.value,
            task.c.duration.is_not(None),
            reason.not_in(("cached", "mapped")),
        )
        .group_by(task.c.name)
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(query)]


def mark_slow(connection: Connection, run_key: int, name: str, beyond: float) -> None:
    """Mark the tasks of that name that took longer than ``beyond`` ms."""
    _note(connection, run_key, task.c.name == name, task.c.duration > beyond)
    connection.execute(
        update(task)
        .where(task.c.run == run_key, task.c.name == name, task.c.duration > beyond)
        .values(slow=1)
    )


def history(
    connection: Connection, flows: Sequence[str], name: str, since: int, limit: int
) -> list[Row[Any]]:
    """The newest ended tasks of that name in these flows since a time (ms since the epoch)."""
    query = (
        select(run.c.id, task.c.idx, task.c.state, task.c.started, task.c.ended, task.c.duration)
        .join_from(run, task, task.c.run == run.c.key)
        .where(run.c.flow_id.in_(flows), task.c.name == name, task.c.ended > since)
        .order_by(run.c.at.desc(), run.c.key.desc(), task.c.idx.desc())
        .limit(limit)
    )
    return list(connection.execute(query))
