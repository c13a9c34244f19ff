"""What must hold in every database, beyond what the schema enforces."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from perfect.server.store.tables import flow, log, request, run, run_tag, session_flow, task
from perfect.states import TERMINAL

_SHOWN = 5
_TERMINAL = sorted(TERMINAL)
_counted = select(
    task.c.run, func.count().label("number"), func.max(task.c.idx).label("last")
).group_by(task.c.run)
_tasks = _counted.subquery()
_lines = select(log.c.run, func.max(log.c.seq).label("last")).group_by(log.c.run).subquery()

# what is wrong with a row that such a query finds
_WRONG: tuple[tuple[str, Select[Any]], ...] = (
    (
        "run {}: settled, but in a state that is not final",
        select(run.c.id).where(run.c.settled == 1, run.c.state.not_in(_TERMINAL)),
    ),
    (
        "run {}: over, but a task of it is not",
        select(run.c.id)
        .where(run.c.settled == 1)
        .where(
            select(task.c.idx)
            .where(task.c.run == run.c.key, task.c.state.not_in(_TERMINAL))
            .exists()
        ),
    ),
    (
        "run {}: the number of its tasks is wrong, or one is missing",
        select(run.c.id)
        .join_from(run, _tasks, _tasks.c.run == run.c.key, isouter=True)
        .where(
            or_(
                func.coalesce(_tasks.c.number, 0) != run.c.tasks,
                func.coalesce(_tasks.c.last + 1, 0) != run.c.tasks,
            )
        ),
    ),
    (
        "run {}: has more lines of log than it counts",
        select(run.c.id)
        .join_from(run, _lines, _lines.c.run == run.c.key)
        .where(_lines.c.last > run.c.lines),
    ),
    (
        "run {}: over, but still asks to be executed",
        select(run.c.id)
        .join_from(run, request, request.c.run == run.c.key)
        .where(run.c.settled == 1),
    ),
    (
        "run {}: stands at another time than its tags",
        select(run.c.id)
        .join_from(run, run_tag, run_tag.c.run == run.c.key)
        .where(run_tag.c.at != run.c.at),
    ),
    (
        "session {}: has a flow that is not there",
        select(session_flow.c.session)
        .join_from(session_flow, flow, flow.c.id == session_flow.c.flow_id, isouter=True)
        .where(flow.c.id.is_(None)),
    ),
)


def broken(connection: Connection) -> list[str]:
    """What does not hold, a few examples of each kind."""
    found = []
    for what, query in _WRONG:
        rows = list(connection.execute(query.limit(_SHOWN + 1)).scalars())
        found += [what.format(row) for row in rows[:_SHOWN]]
        if len(rows) > _SHOWN:
            found.append(f"{what.format('…')} (and more)")
    return found


def size(connection: Connection) -> tuple[int, int, int]:
    """How many runs, tasks and lines of log there are."""
    runs, tasks, lines = (
        connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in (run, task, log)
    )
    return runs, tasks, lines
