"""Queries on sessions: how far their events are committed, and which flows they can run."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

from sqlalchemy import Connection, Dialect, Executable, bindparam, select, update

from perfect.server.store.statements import Prepared, upsert
from perfect.server.store.tables import flow, session, session_flow

_SEQ = select(session.c.seq).where(session.c.id == bindparam("of_id"))
_SAVE_SEQ = Prepared(
    update(session).where(session.c.id == bindparam("of_id")).values(seq=bindparam("seq")),
    ("seq", "of_id"),
)

# how many parameters a statement may have differs; so many are fine everywhere
_AT_ONCE = 500


def seq(connection: Connection, session_id: str, client: str, monitored: bool, now: int) -> int:
    """The newest committed event of a session, which is entered if it is new."""
    found = connection.execute(_SEQ, {"of_id": session_id}).scalar()
    if found is None:
        ensure(connection, session_id, client, monitored, now)
        return 0
    return int(found)


def save_seq(connection: Connection, session_id: str, newest: int) -> None:
    """Note how far the events of a session are committed."""
    _SAVE_SEQ.run(connection, [(newest, session_id)])


def ensure(connection: Connection, session_id: str, client: str, monitored: bool, now: int) -> None:
    """Enter a session, or note that its silence means something from now on."""
    statement = upsert(connection.dialect, session).values(
        id=session_id, client=client, seq=0, monitored=int(monitored), created=now
    )
    if monitored:
        statement = statement.on_conflict_do_update(index_elements=["id"], set_={"monitored": 1})
    else:
        statement = statement.on_conflict_do_nothing(index_elements=["id"])
    connection.execute(statement)


def monitored(connection: Connection, among: Collection[str]) -> set[str]:
    """Those of these sessions whose silence means something."""
    query = select(session.c.id).where(session.c.monitored == 1, session.c.id.in_(among))
    return set(connection.execute(query).scalars())


def link_flow(connection: Connection, session_id: str, flow_id: str) -> bool:
    """That session can run that flow; whether this is news."""
    given = {"of_session": session_id, "of_flow": flow_id}
    return connection.execute(_link(connection.dialect), given).first() is not None


@cache
def _link(dialect: Dialect) -> Executable:
    statement = upsert(dialect, session_flow).values(
        session=bindparam("of_session"), flow_id=bindparam("of_flow")
    )
    # asked for, because not every driver counts the rows of such a statement
    made: Executable = statement.on_conflict_do_nothing().returning(session_flow.c.flow_id)
    return made


def flows(connection: Connection, session_id: str) -> frozenset[str]:
    """Flows that the session can run."""
    query = select(session_flow.c.flow_id).where(session_flow.c.session == session_id)
    return frozenset(connection.execute(query).scalars())


def flow_names(connection: Connection, session_ids: Collection[str]) -> dict[str, list[str]]:
    """Names of the flows that each of these sessions can run, in order."""
    found: dict[str, list[str]] = {}
    ordered = sorted(session_ids)
    for first in range(0, len(ordered), _AT_ONCE):
        some = ordered[first : first + _AT_ONCE]
        query = (
            select(session_flow.c.session, flow.c.name)
            .join_from(session_flow, flow, flow.c.id == session_flow.c.flow_id)
            .where(session_flow.c.session.in_(some))
            .order_by(flow.c.name)
        )
        for row in connection.execute(query):
            found.setdefault(row[0], []).append(row[1])
    return found
