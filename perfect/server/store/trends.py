"""Queries on how runs and tasks went of late. Each looks at so many rows at most, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, select

from perfect.server.store.tables import flow, run, task
from perfect.states import TERMINAL

_NEWEST: Select[Any] = (
    select(
        *(run.c.key, run.c.id, run.c.state, run.c.configuration),
        *(run.c.at, run.c.started, run.c.ended, run.c.tasks),
    )
    .where(run.c.flow_id == bindparam("of_flow"))
    .order_by(run.c.at.desc(), run.c.key.desc())
    .limit(bindparam("at_most"))
)
_near = _NEWEST.subquery()
_ENDED: Select[Any] = select(_near.c.state, _near.c.at, _near.c.ended - _near.c.started).where(
    _near.c.state.in_(sorted(TERMINAL)), _near.c.ended > bindparam("since")
)
_COUNTED = select(func.count()).select_from(
    select(run.c.key)
    .where(run.c.flow_id == bindparam("of_flow"))
    .limit(bindparam("at_most"))
    .subquery()
)

_AT_ONCE = 500
_run_before = run.alias("run_before")
_LAST: Select[Any] = (
    select(flow.c.id)
    .join_from(
        flow,
        run,
        run.c.key
        == select(_run_before.c.key)
        .where(_run_before.c.flow_id == flow.c.id)
        .order_by(_run_before.c.at.desc(), _run_before.c.key.desc())
        .limit(1)
        .scalar_subquery(),
    )
    .add_columns(run.c.id.label("run_id"), run.c.state, run.c.cancel)
    .add_columns(run.c.created, run.c.started, run.c.ended)
)


def last(connection: Connection, flow_ids: Sequence[str]) -> dict[str, Row[Any]]:
    """The newest run of each of these flows that has any: run_id, state, cancel and times in ms."""
    found: dict[str, Row[Any]] = {}
    for first in range(0, len(flow_ids), _AT_ONCE):
        query = _LAST.where(flow.c.id.in_(flow_ids[first : first + _AT_ONCE]))
        found.update((row.id, row) for row in connection.execute(query))
    return found


def newest(connection: Connection, flow_id: str, limit: int) -> list[Row[Any]]:
    """The newest runs of a flow, newest first: key, id, state, configuration, times in ms and how many tasks."""
    return list(connection.execute(_NEWEST, {"of_flow": flow_id, "at_most": limit}).all())


def ended(
    connection: Connection, flow_id: str, limit: int, since: int
) -> list[tuple[str, int, int | None]]:
    """Of the newest runs of a flow those that ended after a time: state, place in lists and duration, in ms."""
    given = {"of_flow": flow_id, "at_most": limit, "since": since}
    return [(row[0], row[1], row[2]) for row in connection.execute(_ENDED, given).all()]


def count(connection: Connection, flow_id: str, limit: int) -> int:
    """How many runs there are of a flow; ``limit`` stands for more, too."""
    return connection.execute(_COUNTED, {"of_flow": flow_id, "at_most": limit}).scalar_one()


def tasks_of(connection: Connection, run_keys: Sequence[int], limit: int) -> list[Row[Any]]:
    """Tasks of these runs, at most so many: run, name, state, duration in ms and reason."""
    query: Select[Any] = (
        select(task.c.run, task.c.name, task.c.state, task.c.duration, task.c.reason)
        .where(task.c.run.in_(run_keys))
        .limit(limit)
    )
    return list(connection.execute(query).all())
