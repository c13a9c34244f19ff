"""Queries on runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, text, update

from perfect.server.store import changes
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
_BY_ID = select(*_COLUMNS).where(run.c.id == bindparam("of_id"))
_BY_KEY = select(*_COLUMNS).where(run.c.key == bindparam("of_key"))
_MOVE_TAGS = Prepared(
    update(run_tag).where(run_tag.c.run == bindparam("of_run")).values(at=bindparam("new_at")),
    ("new_at", "of_run"),
)
_GIVEN = [column.name for column in run.c if column.name != "key"]
_given = attrgetter(*_GIVEN)
_INSERT = Prepared(insert(run).returning(run.c.key), _GIVEN)
_NO_TAGS = "{}"
_AT_ONCE = 500
_TERMINAL = sorted(TERMINAL)
# as text, so that SQLite sees that the partial index fits
_UNSETTLED = text("run.settled = 0")


def insert_new(connection: Connection, record: RunRecord, tags: dict[str, str]) -> None:
    """Keep a new run; sets its key."""
    row = _INSERT.first(connection, *_given(record))
    assert row is not None
    record.key = row[0]
    changes.run(connection, record.key)
    _insert_tags(connection, record, tags)


def save(connection: Connection, record: RunRecord) -> None:
    """Keep a run that changed."""
    _SAVE.run(connection, [(*_values(record), record.key)])
    changes.run(connection, record.key)


def move(connection: Connection, record: RunRecord, at: int) -> None:
    """Give a run another place in lists, and keep it."""
    record.at = at
    if record.tags != _NO_TAGS:
        _MOVE_TAGS.run(connection, [(at, record.key)])
    save(connection, record)


def set_tags(connection: Connection, record: RunRecord, tags: dict[str, str]) -> None:
    """Make a run findable by its tags."""
    connection.execute(run_tag.delete().where(run_tag.c.run == record.key))
    _insert_tags(connection, record, tags)


def _insert_tags(connection: Connection, record: RunRecord, tags: dict[str, str]) -> None:
    if tags:
        connection.execute(
            insert(run_tag),
            [{"name": n, "value": v, "at": record.at, "run": record.key} for n, v in tags.items()],
        )


def by_id(connection: Connection, run_id: str) -> RunRecord | None:
    """The run of that id."""
    row = connection.execute(_BY_ID, {"of_id": run_id}).first()
    return None if row is None else RunRecord(*row)


def by_key(connection: Connection, key: int) -> RunRecord | None:
    """The run of that key."""
    row = connection.execute(_BY_KEY, {"of_key": key}).first()
    return None if row is None else RunRecord(*row)


def by_keys(connection: Connection, keys: Sequence[int]) -> list[RunRecord]:
    """The runs of these keys, as far as they are there."""
    found: list[RunRecord] = []
    for first in range(0, len(keys), _AT_ONCE):
        query = select(*_COLUMNS).where(run.c.key.in_(keys[first : first + _AT_ONCE]))
        found += [RunRecord(*row) for row in connection.execute(query)]
    return found


def unsettled(connection: Connection) -> list[RunRecord]:
    """Runs that a session is executing, or about which it may still have something to say."""
    query = select(*_COLUMNS).where(_UNSETTLED, run.c.session.is_not(None))
    return [RunRecord(*row) for row in connection.execute(query)]


def unsettled_of(connection: Connection) -> list[tuple[str, str]]:
    """(session, run id) of the runs that `unsettled` gives."""
    query = select(run.c.session, run.c.id).where(_UNSETTLED, run.c.session.is_not(None))
    return [(row[0], row[1]) for row in connection.execute(query)]


def cancelling(connection: Connection, session: str) -> list[str]:
    """Ids of the session's active runs that are to be cancelled."""
    query = select(run.c.id).where(
        _UNSETTLED,
        run.c.session == session,
        run.c.state.not_in(_TERMINAL),
        run.c.cancel.is_not(None),
    )
    return list(connection.execute(query).scalars())


def delete(connection: Connection, key: int) -> None:
    """Remove a run with everything that belongs to it (the schema cascades)."""
    if changes.noting(connection):
        query = select(run.c.id).where(run.c.key == key)
        for run_id in connection.execute(query).scalars():
            changes.gone(connection, run_id)
    connection.execute(request.delete().where(request.c.run == key))
    connection.execute(run_tag.delete().where(run_tag.c.run == key))
    connection.execute(run.delete().where(run.c.key == key))
