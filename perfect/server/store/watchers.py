"""What the backends on one database watch of what the others write: a row of ``meta`` for each that watches.

A backend enters itself before it says that a stream is open; the others read these rows at the first transaction
after somebody else's. Writers take turns, so nothing is written in between of which the watcher would not be told.
"""

from __future__ import annotations

import time
from collections.abc import Collection

import orjson
from sqlalchemy import Connection, delete, select

from perfect.server.store.changes import Elsewhere
from perfect.server.store.signs import server_now
from perfect.server.store.statements import upsert
from perfect.server.store.tables import meta

# s for which a row counts; one that watches for longer enters itself again in time
LASTING = 30.0
_PREFIX = "watch:"


def enter(connection: Connection, me: str, runs: Collection[int] | None) -> None:
    """That backend watches.

    Args:
        connection: the writer's.
        me: which backend.
        runs: keys of the runs of which it watches every task; None: it watches nothing any more.
    """
    name = _PREFIX + me
    if runs is None:
        connection.execute(delete(meta).where(meta.c.name == name))
        return
    value = orjson.dumps({"at": server_now(connection, 0), "runs": sorted(runs)}).decode()
    statement = upsert(connection.dialect, meta).values(name=name, value=value)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"value": value})
    )


def others(connection: Connection, me: str) -> Elsewhere:
    """What all but that one watch; the rows of those that are gone are removed."""
    query = select(meta.c.name, meta.c.value).where(
        meta.c.name.startswith(_PREFIX), meta.c.name != _PREFIX + me
    )
    rows = connection.execute(query).all()
    if not rows:
        return Elsewhere()
    now = server_now(connection, 0)
    watched: set[int] = set()
    longest = 0.0
    for name, value in rows:
        said = orjson.loads(value)
        left = LASTING - (now - said["at"]) / 1000
        if left <= 0:
            connection.execute(delete(meta).where(meta.c.name == name))
            continue
        watched.update(said["runs"])
        longest = max(longest, left)
    return Elsewhere(time.monotonic() + longest, frozenset(watched))
