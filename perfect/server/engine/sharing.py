"""What several backends on one database must know of each other: signs of life, runs, and word for open polls.

A client may speak to each of them in turn, and one of them may die. So each tells the others, through the
database, which sessions it has heard of, and watches over the runs of all. On SQLite, which has one backend,
nothing of this happens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import orjson
from sqlalchemy import Connection

from perfect.server.engine.context import Context
from perfect.server.store import Transaction, runs, sessions, signs

if TYPE_CHECKING:
    from perfect.server.engine.backend import Backend

_log = logging.getLogger(__name__)

# how often signs of life are exchanged, in parts of the silence limit
_PARTS = 5


class _Found(NamedTuple):
    now: int
    seen: dict[str, int]
    flows: frozenset[str]
    runs: list[tuple[str, str]]
    monitored: set[str]


class Sharing:
    """This backend's part in the exchange.

    Args:
        backend: what it is part of.
        words: what to do on the event loop when another backend tells something, by kind.
    """

    def __init__(self, backend: Backend, words: dict[str, Callable[..., None]]) -> None:
        self._backend = backend
        self._words = words
        self._every = backend.settings.silence / _PARTS
        self._next = 0.0

    def start(self) -> None:
        """Hear what the others tell."""
        if self._backend.database.shared:
            self._backend.database.listen(self._hear)

    def tell(self, kind: str, *facts: object) -> None:
        """Let the others know; from whatever thread."""
        if self._backend.database.shared:
            self._backend.database.tell(orjson.dumps([kind, *facts]).decode())

    async def sweep(self) -> None:
        """Exchange signs of life, if it is time."""
        backend = self._backend
        now = backend.clock.monotonic()
        if not backend.database.shared or now < self._next:
            return
        self._next = now + self._every
        heard = backend.liveness.heard(self._every * 2)
        # an open poll is the sign of life of a session without active runs, and of no other (PROTOCOL.md)
        idle = [
            session
            for session in backend.desk.presence.polling()
            if session not in heard and not backend.liveness.has_runs(session)
        ]
        await backend.write(_note, heard | dict.fromkeys(idle, 0.0))
        found = await backend.look(self._find)
        backend.desk.presence.elsewhere = found.flows
        for session, run_id in found.runs:
            backend.liveness.started(session, run_id)
        for session in found.monitored:
            at = found.seen.get(session)
            age = backend.settings.silence if at is None else max(0, found.now - at) / 1000
            backend.liveness.seen_elsewhere(session, age)

    def _find(self, connection: Connection) -> _Found:
        now = signs.server_now(connection, self._backend.clock.now())
        since = now - round(self._backend.settings.silence * 1000)
        active = runs.unsettled_of(connection)
        return _Found(
            now,
            signs.since(connection, since),
            signs.flows_since(connection, since),
            active,
            sessions.monitored(connection, {session for session, _ in active}),
        )

    def _hear(self, word: str) -> None:
        try:
            kind, *facts = orjson.loads(word)
            self._backend.soon(self._words[kind], *facts)
        except (ValueError, KeyError, TypeError):
            _log.warning("another backend said what this one does not understand: %.100r", word)


def _note(tx: Transaction, context: Context, heard: dict[str, float]) -> None:
    if heard:
        now = signs.server_now(tx.connection, context.clock.now())
        signs.note(tx.connection, heard, now)
