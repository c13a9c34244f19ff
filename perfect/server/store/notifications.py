"""The outbox of webhooks: what is still to be delivered, and what became of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from perfect.server.store.statements import upsert
from perfect.server.store.tables import notification

WAITING, SENT, DEAD = "waiting", "sent", "dead"
# so many that are over are kept
_KEPT = 1_000


def add(
    connection: Connection, *, run_id: str, flow: str, hook: str, event: str, body: str, now: int
) -> bool:
    """Put in the outbox; False when that receiver was told that of that run before."""
    statement = upsert(connection.dialect, notification).values(
        run_id=run_id,
        flow_name=flow,
        hook=hook,
        event=event,
        body=body,
        state=WAITING,
        attempts=0,
        due=now,
        created=now,
    )
    statement = statement.on_conflict_do_nothing(index_elements=["run_id", "hook", "event"])
    return connection.execute(statement).rowcount > 0


def due(connection: Connection, now: int, limit: int) -> list[Row[Any]]:
    """What is to be delivered now, the longest waiting first."""
    query = select(notification).where(notification.c.state == WAITING, notification.c.due <= now)
    return list(connection.execute(query.order_by(notification.c.due).limit(limit)))


def claim(connection: Connection, key: int, attempts: int, until: int) -> bool:
    """Take one for delivery, unless another backend did; it is due again at ``until``."""
    statement = (
        notification.update()
        .where(
            notification.c.key == key,
            notification.c.attempts == attempts,
            notification.c.state == WAITING,
        )
        .values(attempts=attempts + 1, due=until)
    )
    return connection.execute(statement).rowcount > 0


def settle(connection: Connection, key: int, **values: Any) -> None:
    """Note what became of one; the oldest that are over are forgotten."""
    connection.execute(notification.update().where(notification.c.key == key).values(**values))
    if values.get("state") in (SENT, DEAD):
        newest = select(func.max(notification.c.key)).scalar_subquery()
        connection.execute(
            notification.delete().where(
                notification.c.state != WAITING, notification.c.key <= newest - _KEPT
            )
        )


def newest(connection: Connection, limit: int) -> Sequence[Row[Any]]:
    """The newest, delivered or not."""
    query = select(notification).order_by(notification.c.key.desc()).limit(limit)
    return connection.execute(query).all()
