"""Queries on execution requests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from perfect.server.store.tables import request, run, session_flow

_WAITING = ("queued", "leased")


def insert(connection: Connection, run_key: int, flow_id: str, now: int) -> None:
    """Queue a request."""
    connection.execute(
        request.insert().values(run=run_key, flow_id=flow_id, state="queued", offers=0, created=now)
    )


def for_session(connection: Connection, session_id: str, limit: int) -> list[Row[Any]]:
    """Requests for flows that the session can run and that nobody has claimed, oldest first."""
    query = (
        select(request)
        .join_from(request, session_flow, session_flow.c.flow_id == request.c.flow_id)
        .where(session_flow.c.session == session_id, request.c.state.in_(_WAITING))
        .order_by(request.c.key)
        .limit(limit)
    )
    return list(connection.execute(query))


def by_run(connection: Connection, run_id: str) -> Row[Any] | None:
    """The request for the run of that id."""
    query = select(request).join_from(request, run, run.c.key == request.c.run)
    return connection.execute(query.where(run.c.id == run_id)).first()


def waiting(connection: Connection, now: int) -> list[tuple[str, str | None]]:
    """Flow and last session of each request that may be given out now, oldest first."""
    query = select(request.c.flow_id, request.c.session).where(
        (request.c.state == "queued")
        | ((request.c.state == "leased") & (request.c.lease_until <= now))
    )
    return [(row[0], row[1]) for row in connection.execute(query.order_by(request.c.key))]


def change(connection: Connection, key: int, **values: Any) -> None:
    """Change a request."""
    connection.execute(request.update().where(request.c.key == key).values(values))


def delete_of_run(connection: Connection, run_key: int) -> None:
    """The run needs nobody to execute it any more."""
    connection.execute(request.delete().where(request.c.run == run_key))
