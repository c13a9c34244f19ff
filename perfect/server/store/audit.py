"""The audit table: what happened to runs beside what their clients reported."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Connection, select

from perfect.server.store.tables import audit


def note(
    connection: Connection, now: int, run_id: str, session: str | None, action: str, **detail: Any
) -> None:
    """Add an entry."""
    connection.execute(
        audit.insert().values(
            at=now,
            run_id=run_id,
            session=session,
            action=action,
            detail=orjson.dumps(detail).decode(),
        )
    )


def of_run(connection: Connection, run_id: str) -> list[tuple[str, dict[str, Any]]]:
    """(action, detail) of everything noted about a run, oldest first."""
    query = select(audit.c.action, audit.c.detail).where(audit.c.run_id == run_id)
    return [
        (row[0], orjson.loads(row[1])) for row in connection.execute(query.order_by(audit.c.key))
    ]
