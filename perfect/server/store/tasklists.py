"""Queries for pages of the tasks of one run, which may have a million."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Float, Row, cast, func, select

from perfect.server.store.tables import task
from perfect.server.store.tasks import TaskRow

CensusRow = Row[Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tasks of a run are wanted.

    Attributes:
        states: in one of these states; None for all.
        text: whose name contains this, in any letter case.
    """

    states: Sequence[str] | None = None
    text: str | None = None


def page(
    connection: Connection, run_key: int, wanted: Filter, after: int, limit: int
) -> list[TaskRow]:
    """The first ``limit`` tasks above the index ``after`` that match, without results and errors."""
    query = select(task).where(task.c.run == run_key, task.c.idx > after)
    if wanted.states is not None:
        query = query.where(task.c.state.in_(wanted.states))
    if wanted.text is not None:
        query = query.where(task.c.name.icontains(wanted.text, autoescape=True))
    return list(connection.execute(query.order_by(task.c.idx).limit(limit)))


def census(connection: Connection, run_key: int) -> list[CensusRow]:
    """Per state of a run's tasks: how many, how many with a weight, and the sums of weights and estimates."""
    query = (
        select(
            task.c.state,
            func.count().label("tasks"),
            func.count(task.c.weight).label("weighted"),
            func.sum(task.c.weight).label("weight"),
            # as floats: so many large integers would overflow
            func.sum(cast(task.c.estimate, Float)).label("estimate"),
        )
        .where(task.c.run == run_key)
        .group_by(task.c.state)
    )
    return list(connection.execute(query))
