"""Queries on the flows that have requests to give out, in turn.

A row stands for "may have": it is entered with a request and goes when somebody finds nothing there.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, func, insert, literal_column, select, update

from perfect.server.store.statements import Prepared
from perfect.server.store.tables import queue, request, run, session_flow

_WAITING = ("queued", "leased")
_others = queue.alias("others")
_LAST = select(
    func.coalesce(func.max(_others.c.turn), literal_column("0")) + literal_column("1")
).scalar_subquery()
_ENTER = Prepared(
    insert(queue).values(flow_id=bindparam("flow_id"), turn=_LAST, lonely=bindparam("lonely")),
    ("flow_id", "lonely"),
)
_SERVED = Prepared(
    update(queue)
    .where(queue.c.flow_id == bindparam("of_flow"))
    .values(turn=_LAST, lonely=literal_column("0")),
    ("of_flow",),
)
_TURN = Prepared(select(queue.c.turn).where(queue.c.flow_id == bindparam("of_flow")), ("of_flow",))
_DROP = queue.delete().where(queue.c.flow_id == bindparam("of_flow"))
# correlated, so that the turns are gone through in order however many flows the session has
_NEXT = (
    select(queue.c.flow_id, queue.c.turn)
    .where(
        queue.c.turn > bindparam("after"),
        select(session_flow.c.flow_id)
        .where(
            session_flow.c.session == bindparam("of_session"),
            session_flow.c.flow_id == queue.c.flow_id,
        )
        .exists(),
    )
    .order_by(queue.c.turn)
    .limit(bindparam("most"))
)


def enter(connection: Connection, flow_id: str, lonely: bool) -> None:
    """A flow has a request: it takes its turn after all others, if it has none yet."""
    if _TURN.first(connection, flow_id) is None:
        _ENTER.run(connection, [(flow_id, int(lonely))])


def served(connection: Connection, flow_id: str) -> None:
    """A request of that flow was given out: all others come first now."""
    _SERVED.run(connection, [(flow_id,)])


def next_flows(
    connection: Connection, session_id: str, after: int, limit: int
) -> list[tuple[str, int]]:
    """Flows that the session can run and that may have requests, with their turns, those beyond ``after``."""
    given = {"of_session": session_id, "after": after, "most": limit}
    return [(row[0], row[1]) for row in connection.execute(_NEXT, given)]


def drop(connection: Connection, flow_id: str) -> None:
    """There is no request of that flow to give out."""
    connection.execute(_DROP, {"of_flow": flow_id})


def listed(connection: Connection) -> dict[str, bool]:
    """Every flow that may have requests, and whether no client has it."""
    return {
        row[0]: bool(row[1]) for row in connection.execute(select(queue.c.flow_id, queue.c.lonely))
    }


def mark(connection: Connection, flow_ids: Collection[str], lonely: bool) -> None:
    """Note of flows whether a client has them."""
    connection.execute(
        queue.update().where(queue.c.flow_id.in_(flow_ids)).values(lonely=int(lonely))
    )


def lonely(connection: Connection, flow_ids: Collection[str]) -> set[str]:
    """Those of these flows that no client has."""
    query = select(queue.c.flow_id).where(queue.c.flow_id.in_(flow_ids), queue.c.lonely == 1)
    return set(connection.execute(query).scalars())


def missing(connection: Connection, limit: int) -> list[str]:
    """Flows that have requests to give out and no turn: two backends on one database may bring that about."""
    query = (
        select(request.c.flow_id)
        .where(
            request.c.state.in_(_WAITING),
            ~select(queue.c.flow_id).where(queue.c.flow_id == request.c.flow_id).exists(),
        )
        .distinct()
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def runs_waiting(connection: Connection, flow_ids: Collection[str], limit: int) -> list[int]:
    """Keys of the newest runs of these flows that wait for somebody to execute them."""
    query = (
        select(run.c.key)
        .join_from(request, run, run.c.key == request.c.run)
        .where(request.c.flow_id.in_(flow_ids), request.c.state.in_(_WAITING))
        .order_by(request.c.key.desc())
        .limit(limit)
    )
    return list(connection.execute(query).scalars())
