"""Queries on runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, insert, or_, select, text, update

from perfect.server.store.records import RunRecord
from perfect.server.store.statements import Prepared
from perfect.server.store.tables import request, run, run_tag
from perfect.states import TERMINAL

_NAMES = [f.name for f in fields(RunRecord) if f.name in run.c]
_COLUMNS = [run.c[name] for name in _NAMES]
_CHANGING = [name for name in _NAMES if name not in ("key", "id", "created")]
_values = attrgetter(*_CHANGING)
_SAVE = Prepared(
    update(run)
    .where(run.c.key == bindparam("of_key"))
    .values({name: bindparam(name) for name in _CHANGING}),
    [*_CHANGING, "of_key"],
)
_TERMINAL = sorted(TERMINAL)
# as text, so that SQLite sees that the partial index fits
_UNSETTLED = text("run.settled = 0")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs are asked for; None asks for any.

    Attributes:
        states: of these states.
        flows: of the flows of these ids.
        client: of this client.
        tag: with this tag, a name or (name, value).
        text: whose flow is in ``text_flows`` or whose id begins with it.
        text_flows: ids of the flows that match ``text``.
        since: started at or after; ms since the epoch.
        until: started before; ms since the epoch.
    """

    states: Collection[str] | None = None
    flows: Collection[str] | None = None
    client: str | None = None
    tag: tuple[str, str | None] | None = None
    text: str | None = None
    text_flows: Collection[str] = ()
    since: int | None = None
    until: int | None = None


def insert_new(connection: Connection, record: RunRecord, tags: dict[str, str]) -> None:
    """Keep a new run; sets its key."""
    values = {name: getattr(record, name) for name in _NAMES if name != "key"}
    key = connection.execute(insert(run), values).inserted_primary_key
    assert key is not None
    record.key = key[0]
    set_tags(connection, record, tags)


def save(connection: Connection, record: RunRecord) -> None:
    """Keep a run that changed."""
    _SAVE.run(connection, [(*_values(record), record.key)])


def set_tags(connection: Connection, record: RunRecord, tags: dict[str, str]) -> None:
    """Make a run findable by its tags."""
    connection.execute(run_tag.delete().where(run_tag.c.run == record.key))
    if tags:
        connection.execute(
            insert(run_tag),
            [{"name": n, "value": v, "at": record.at, "run": record.key} for n, v in tags.items()],
        )


def by_id(connection: Connection, run_id: str) -> RunRecord | None:
    """The run of that id."""
    return _one(connection, select(*_COLUMNS).where(run.c.id == run_id))


def by_key(connection: Connection, key: int) -> RunRecord | None:
    """The run of that key."""
    return _one(connection, select(*_COLUMNS).where(run.c.key == key))


def unsettled(connection: Connection) -> list[RunRecord]:
    """Runs that a session is executing, or about which it may still have something to say."""
    query = select(*_COLUMNS).where(_UNSETTLED, run.c.session.is_not(None))
    return [RunRecord(*row) for row in connection.execute(query)]


def cancelling(connection: Connection, session: str) -> list[str]:
    """Ids of the session's active runs that are to be cancelled."""
    query = select(run.c.id).where(
        _UNSETTLED,
        run.c.session == session,
        run.c.state.not_in(_TERMINAL),
        run.c.cancel.is_not(None),
    )
    return list(connection.execute(query).scalars())


def page(
    connection: Connection, wanted: Filter, before: tuple[int, int] | None, limit: int
) -> list[RunRecord]:
    """Runs that match, newest first.

    Args:
        wanted: which.
        before: (at, key) of the last run of the page before.
        limit: how many at most.
    """
    query = select(*_COLUMNS)
    for condition in _conditions(wanted):
        query = query.where(condition)
    if before is not None:
        at, key = before
        query = query.where(or_(run.c.at < at, and_(run.c.at == at, run.c.key < key)))
    query = query.order_by(run.c.at.desc(), run.c.key.desc()).limit(limit)
    return [RunRecord(*row) for row in connection.execute(query)]


def delete(connection: Connection, key: int) -> None:
    """Remove a run with everything that belongs to it (the schema cascades)."""
    connection.execute(request.delete().where(request.c.run == key))
    connection.execute(run_tag.delete().where(run_tag.c.run == key))
    connection.execute(run.delete().where(run.c.key == key))


def finished_since(
    connection: Connection, flows: Sequence[str], since: int, limit: int
) -> list[RunRecord]:
    """The newest terminal runs of these flows that ended after ``since`` (ms since the epoch)."""
    query = (
        select(*_COLUMNS)
        .where(run.c.flow_id.in_(flows), run.c.state.in_(_TERMINAL), run.c.ended > since)
        .order_by(run.c.at.desc(), run.c.key.desc())
        .limit(limit)
    )
    return [RunRecord(*row) for row in connection.execute(query)]


def _one(connection: Connection, query: Select[Any]) -> RunRecord | None:
    row = connection.execute(query).first()
    return None if row is None else RunRecord(*row)


def _conditions(wanted: Filter) -> list[Any]:
    conditions: list[Any] = []
    if wanted.states is not None:
        conditions.append(run.c.state.in_(wanted.states))
    if wanted.flows is not None:
        conditions.append(run.c.flow_id.in_(wanted.flows))
    if wanted.client is not None:
        conditions.append(run.c.client == wanted.client)
    if wanted.tag is not None:
        name, value = wanted.tag
        tagged = select(run_tag.c.run).where(run_tag.c.name == name)
        conditions.append(
            run.c.key.in_(tagged if value is None else tagged.where(run_tag.c.value == value))
        )
    if wanted.text is not None:
        conditions.append(
            or_(
                run.c.flow_id.in_(wanted.text_flows),
                and_(run.c.id >= wanted.text, run.c.id < wanted.text + "\uffff"),
            )
        )
    if wanted.since is not None:
        conditions.append(run.c.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(run.c.at < wanted.until)
    return conditions
