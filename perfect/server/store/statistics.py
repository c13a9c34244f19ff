"""Queries on what was learned from durations. Task "" stands for the flow as a whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from perfect.server.store.statements import upsert
from perfect.server.store.tables import flow, meta, statistic

_CLEARED = "statistics_cleared"
_AT_ONCE = 500
_OF_FLOW = select(statistic).where(statistic.c.flow_id == bindparam("of_flow"))


def of_flow(connection: Connection, flow_id: str) -> list[Row[Any]]:
    """Everything known about a flow and its tasks."""
    return list(connection.execute(_OF_FLOW, {"of_flow": flow_id}))


def by_flow(connection: Connection, flow_ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    """Everything known about these flows and their tasks, by the flow's id."""
    found: dict[str, list[Row[Any]]] = {}
    for first in range(0, len(flow_ids), _AT_ONCE):
        query = select(statistic).where(statistic.c.flow_id.in_(flow_ids[first : first + _AT_ONCE]))
        for row in connection.execute(query):
            found.setdefault(row.flow_id, []).append(row)
    return found


def of_flows(
    connection: Connection, flow_ids: Collection[str] | None = None, task: str | None = None
) -> list[Row[Any]]:
    """What is known, with names of flow and client; of these flows and that task, or of all."""
    query = select(statistic, flow.c.name.label("flow_name"), flow.c.client).join_from(
        statistic, flow, flow.c.id == statistic.c.flow_id
    )
    if flow_ids is not None:
        query = query.where(statistic.c.flow_id.in_(flow_ids))
    if task is not None:
        query = query.where(statistic.c.task == task)
    return list(connection.execute(query.order_by(flow.c.name, statistic.c.task)))


def save_many(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Keep new summaries in place of the old."""
    if not rows:
        return
    statement = upsert(connection.dialect, statistic)
    statement = statement.on_conflict_do_update(
        index_elements=["flow_id", "task"],
        set_={
            name: statement.excluded[name] for name in ("samples", "mean", "m2", "runs", "updated")
        },
    )
    connection.execute(statement, rows)


def clear(connection: Connection, now: int) -> None:
    """Forget what was learned; histories begin anew."""
    connection.execute(statistic.delete())
    statement = upsert(connection.dialect, meta).values(name=_CLEARED, value=str(now))
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"value": str(now)})
    )


def cleared_at(connection: Connection) -> int:
    """When statistics were last cleared; ms since the epoch, 0 for never."""
    return int(
        connection.execute(select(meta.c.value).where(meta.c.name == _CLEARED)).scalar() or 0
    )
