"""Queries on the sessions of the page."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete, or_, select, update

from perfect.server.store.tables import login


def insert(connection: Connection, mark: str, kind: str, now: int) -> None:
    """Enter a session."""
    connection.execute(login.insert().values(mark=mark, kind=kind, created=now, used=now))


def times(connection: Connection, marks: Collection[str]) -> dict[str, tuple[int, int]]:
    """(created, used) of those of these sessions that there are."""
    rows = connection.execute(select(login).where(login.c.mark.in_(marks)))
    return {row.mark: (row.created, row.used) for row in rows}


def find(connection: Connection, marks: Collection[str]) -> tuple[str, str, int, int] | None:
    """(mark, kind, created, used) of the first of these that there is."""
    row = connection.execute(select(login).where(login.c.mark.in_(marks))).first()
    return None if row is None else (row.mark, row.kind, row.created, row.used)


def use(connection: Connection, mark: str, now: int) -> None:
    """Note that it was used."""
    connection.execute(update(login).where(login.c.mark == mark).values(used=now))


def remove(connection: Connection, mark: str) -> None:
    """End a session."""
    connection.execute(delete(login).where(login.c.mark == mark))


def prune(connection: Connection, created: int, used: int) -> None:
    """Remove sessions that were made or last used before these times."""
    connection.execute(delete(login).where(or_(login.c.created < created, login.c.used < used)))
