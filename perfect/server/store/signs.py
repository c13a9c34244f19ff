"""Queries on signs of life: when sessions were last heard of, by whatever backend on this database."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import BigInteger, Connection, and_, case, cast, func, insert, literal, select

from perfect.server.store.statements import upsert
from perfect.server.store.tables import run, seen, session, session_flow
from perfect.states import TERMINAL

_AT_ONCE = 1_000
# the server's clock: those of several backends may differ
_SERVER_CLOCK = select(cast(func.extract("epoch", func.clock_timestamp()) * 1000, BigInteger))


def server_now(connection: Connection, now: int) -> int:
    """The database's time in ms since the epoch; ``now`` where it has no clock of its own (SQLite)."""
    if connection.dialect.name != "postgresql":
        return now
    return int(connection.execute(_SERVER_CLOCK).scalar_one())


def note(
    connection: Connection,
    heard: Mapping[str, float],
    now: int,
    by: str,
    facts: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Sessions were heard of.

    Args:
        connection: the writer's.
        heard: how many seconds ago each was.
        now: ms since the epoch, the database's time.
        by: which backend has heard them.
        facts: what is to be shown of each, as JSON text, where something is known.
    """
    statement = upsert(connection.dialect, seen)
    entered = statement.excluded
    is_newer = entered.at >= seen.c.at
    statement = statement.on_conflict_do_update(
        index_elements=["session"],
        set_={
            "at": case((is_newer, entered.at), else_=seen.c.at),
            "by": case((is_newer, entered.by), else_=seen.c.by),
            "facts": case(
                (and_(is_newer, entered.facts.is_not(None)), entered.facts), else_=seen.c.facts
            ),
        },
    )
    rows = [
        {"session": one, "at": now - round(age * 1000), "by": by, "facts": facts.get(one)}
        for one, age in sorted(heard.items())
    ]
    for first in range(0, len(rows), _AT_ONCE):
        connection.execute(statement.values(rows[first : first + _AT_ONCE]))


def enter_unknown(connection: Connection, now: int) -> None:
    """Sessions of which nobody has noted when they were heard of count as heard of now."""
    for known in (select(session.c.id), select(session_flow.c.session).distinct()):
        column = known.selected_columns[0]
        rows = (
            select(column, literal(now, BigInteger))
            .where(~select(seen.c.session).where(seen.c.session == column).exists())
            .distinct()
        )
        connection.execute(insert(seen).from_select(["session", "at"], rows))


def since(connection: Connection, at: int, me: str) -> dict[str, tuple[int, bool]]:
    """Sessions that were heard of since then (ms since the epoch).

    Returns:
        By session, when it was heard of last, and whether that was by another backend than ``me``.
    """
    query = select(seen.c.session, seen.c.at, seen.c.by).where(seen.c.at >= at)
    return {row.session: (row.at, row.by != me) for row in connection.execute(query)}


def facts_since(connection: Connection, at: int, me: str) -> dict[str, tuple[int, str]]:
    """Sessions that others than ``me`` have heard of since then: when, and what is to be shown of them."""
    query = select(seen.c.session, seen.c.at, seen.c.facts).where(
        seen.c.at >= at, seen.c.by != me, seen.c.facts.is_not(None)
    )
    return {row.session: (row.at, row.facts) for row in connection.execute(query)}


def flows_since(connection: Connection, at: int) -> frozenset[str]:
    """Flows that a session can run which was heard of since then."""
    query = (
        select(session_flow.c.flow_id)
        .join_from(seen, session_flow, session_flow.c.session == seen.c.session)
        .where(seen.c.at >= at)
        .distinct()
    )
    return frozenset(connection.execute(query).scalars())


def forget(connection: Connection, before: int, limit: int) -> int:
    """Forget sessions that were last heard of before then and have no run that goes on; returns how many."""
    query = (
        select(seen.c.session)
        .where(
            seen.c.at < before,
            ~select(run.c.key)
            .where(run.c.session == seen.c.session, run.c.state.not_in(sorted(TERMINAL)))
            .exists(),
        )
        .limit(limit)
    )
    old = list(connection.execute(query).scalars())
    if old:
        connection.execute(session.delete().where(session.c.id.in_(old)))
        connection.execute(session_flow.delete().where(session_flow.c.session.in_(old)))
        connection.execute(seen.delete().where(seen.c.session.in_(old)))
    return len(old)
