"""The audit table: what happened to runs beside what their clients reported, and what people and tools did."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Connection, Row, insert, select

from perfect.server.store.records import Actor
from perfect.server.store.statements import Prepared
from perfect.server.store.tables import audit

_NAMES = ("at", "run_id", "session", "action", "detail", "kind", "peer", "login")
_INSERT = Prepared(insert(audit), _NAMES)


def note(
    connection: Connection,
    now: int,
    run_id: str | None,
    session: str | None,
    action: str,
    by: Actor | None = None,
    **detail: Any,
) -> None:
    """Add an entry.

    Args:
        connection: of the transaction that does what is noted.
        now: ms since the epoch.
        run_id: the run it is about, or None.
        session: the client's session it is about, or None.
        action: what was done, in a word or two.
        by: who asked for it; None where nobody did.
        detail: further facts (JSON).
    """
    whose = (None, None, None) if by is None else (by.kind, by.peer, by.login)
    said = orjson.dumps(detail).decode()
    _INSERT.run(connection, [(now, run_id, session, action, said, *whose)])


def of_run(connection: Connection, run_id: str) -> list[tuple[str, dict[str, Any]]]:
    """(action, detail) of everything noted about a run, oldest first."""
    query = select(audit.c.action, audit.c.detail).where(audit.c.run_id == run_id)
    return [
        (row[0], orjson.loads(row[1])) for row in connection.execute(query.order_by(audit.c.key))
    ]


def page(connection: Connection, before: int | None, limit: int) -> list[Row[Any]]:
    """Entries, newest first; those older than the entry ``before``, if one is given."""
    query = select(audit).order_by(audit.c.key.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.key < before)
    return list(connection.execute(query))
