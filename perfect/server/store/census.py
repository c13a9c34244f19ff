"""How much there is: counted by index only, so that asking costs little however much it is."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from perfect.server.store.tables import request, run
from perfect.states import TERMINAL, TaskState

_OPEN = sorted(state.value for state in TaskState if state not in TERMINAL)
_WAITING = ("leased", "queued")


@dataclass(frozen=True, slots=True)
class Census:
    """Numbers at one moment.

    Attributes:
        runs: runs that are not over, by state.
        requests: unclaimed execution requests, by state.
        size: bytes of the database.
    """

    runs: dict[str, int]
    requests: dict[str, int]
    size: int


def take(connection: Connection) -> Census:
    """Count."""
    runs = dict.fromkeys(_OPEN, 0)
    query = select(run.c.state, func.count()).where(run.c.state.in_(_OPEN)).group_by(run.c.state)
    runs.update((row[0], row[1]) for row in connection.execute(query))
    requests = dict.fromkeys(_WAITING, 0)
    waiting = select(request.c.state, func.count()).where(request.c.state.in_(_WAITING))
    requests.update(
        (row[0], row[1]) for row in connection.execute(waiting.group_by(request.c.state))
    )
    return Census(runs, requests, _size(connection))


def _size(connection: Connection) -> int:
    if connection.dialect.name == "postgresql":
        found = connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar()
    else:
        found = connection.exec_driver_sql(
            "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        ).scalar()
    return int(found or 0)
