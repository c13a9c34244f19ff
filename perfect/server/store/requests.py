"""Queries on execution requests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert as insert_into, select, update

from perfect.server.store.statements import Prepared
from perfect.server.store.tables import request, run

_WAITING = ("queued", "leased")
_OF_FLOW = (
    select(request)
    .where(request.c.flow_id == bindparam("of_flow"), request.c.state.in_(_WAITING))
    .order_by(request.c.key)
    .limit(bindparam("most"))
)
_INSERT = Prepared(insert_into(request), ("run", "flow_id", "state", "offers", "created"))
_BY_RUN = Prepared(
    select(request)
    .join_from(request, run, run.c.key == request.c.run)
    .where(run.c.id == bindparam("of_id")),
    ("of_id",),
)
_CHANGE = update(request).where(request.c.key == bindparam("of_key"))


def insert(connection: Connection, run_key: int, flow_id: str, now: int) -> None:
    """Queue a request."""
    _INSERT.run(connection, [(run_key, flow_id, "queued", 0, now)])


def of_flow(connection: Connection, flow_id: str, limit: int) -> list[Row[Any]]:
    """Requests for a flow that nobody has claimed, oldest first."""
    return list(connection.execute(_OF_FLOW, {"of_flow": flow_id, "most": limit}))


def by_run(connection: Connection, run_id: str) -> Row[Any] | None:
    """The request for the run of that id."""
    row: Row[Any] | None = _BY_RUN.first(connection, run_id)
    return row


def are_waiting(connection: Connection, flow_id: str) -> bool:
    """Whether a flow has requests that nobody has claimed."""
    return bool(of_flow(connection, flow_id, 1))


def lapsed(connection: Connection, now: int) -> list[tuple[str, str | None]]:
    """Flow and last session of each lease that has ended unclaimed, oldest first."""
    query = select(request.c.flow_id, request.c.session).where(
        request.c.state == "leased", request.c.lease_until <= now
    )
    return [(row[0], row[1]) for row in connection.execute(query.order_by(request.c.key))]


def exhausted(connection: Connection, now: int, offers: int, limit: int) -> list[str]:
    """Ids of the runs whose requests were offered so often and never claimed."""
    query = (
        select(run.c.id)
        .join_from(request, run, run.c.key == request.c.run)
        .where(
            request.c.state == "leased", request.c.lease_until <= now, request.c.offers >= offers
        )
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def older(connection: Connection, than: int, limit: int) -> list[str]:
    """Ids of the runs whose requests wait since before ``than`` (ms since the epoch)."""
    query = (
        select(run.c.id)
        .join_from(request, run, run.c.key == request.c.run)
        .where(request.c.state == "queued", request.c.created < than)
        .order_by(request.c.key)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def change(connection: Connection, key: int, **values: Any) -> None:
    """Change a request."""
    connection.execute(_CHANGE, {"of_key": key, **values})


def delete_of_run(connection: Connection, run_key: int) -> None:
    """The run needs nobody to execute it any more."""
    connection.execute(request.delete().where(request.c.run == run_key))
