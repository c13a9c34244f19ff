"""Queries on how runs and tasks went of late. Each looks at so many rows at most, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from perfect.server.store.tables import run, task

_NEWEST = (
    select(
        *(run.c.key, run.c.id, run.c.state, run.c.configuration),
        *(run.c.at, run.c.started, run.c.ended, run.c.tasks),
    )
    .where(run.c.flow_id == bindparam("of_flow"))
    .order_by(run.c.at.desc(), run.c.key.desc())
    .limit(bindparam("at_most"))
)
_COUNTED = select(func.count()).select_from(
    select(run.c.key)
    .where(run.c.flow_id == bindparam("of_flow"))
    .limit(bindparam("at_most"))
    .subquery()
)


def newest(connection: Connection, flow_id: str, limit: int) -> list[Row[Any]]:
    """The newest runs of a flow, newest first: key, id, state, configuration, times in ms and how many tasks."""
    return list(connection.execute(_NEWEST, {"of_flow": flow_id, "at_most": limit}))


def count(connection: Connection, flow_id: str, limit: int) -> int:
    """How many runs there are of a flow; ``limit`` stands for more, too."""
    return connection.execute(_COUNTED, {"of_flow": flow_id, "at_most": limit}).scalar_one()


def tasks_of(connection: Connection, run_keys: Sequence[int], limit: int) -> list[Row[Any]]:
    """Tasks of these runs, at most so many: run, name, state, duration in ms and reason."""
    query = (
        select(task.c.run, task.c.name, task.c.state, task.c.duration, task.c.reason)
        .where(task.c.run.in_(run_keys))
        .limit(limit)
    )
    return list(connection.execute(query))
