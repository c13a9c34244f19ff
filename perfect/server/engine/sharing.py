"""What several backends on one database must know of each other: signs of life, runs, and word for polls and streams.

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

from perfect.server.engine import telling
from perfect.server.engine.context import Context
from perfect.server.store import Transaction, runs, sessions, signs
from perfect.server.store.changes import Changes, Elsewhere

if TYPE_CHECKING:
    from perfect.server.engine.backend import Backend

_log = logging.getLogger(__name__)

# how often signs of life are exchanged, in parts of the silence limit
_PARTS = 5
# s after which what is watched is said again
_AGAIN = 10.0


class _Found(NamedTuple):
    now: int
    seen: dict[str, tuple[int, bool]]
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
        # s after which at the latest each knows what another has heard
        self._late = 2 * self._every
        self._next = 0.0
        self._watched: frozenset[int] | None = None
        self._watch_again = 0.0

    def start(self) -> None:
        """Hear what the others tell."""
        if self._backend.database.shared:
            self._backend.database.listen(self._hear)

    def tell(self, kind: str, *facts: object) -> None:
        """Let the others know; from whatever thread."""
        if self._backend.database.shared:
            self._backend.database.tell(orjson.dumps([kind, *facts]).decode())

    async def watch(self, runs: frozenset[int] | None) -> None:
        """From the next transaction on, whoever makes it, what it changes is told to the streams.

        Args:
            runs: keys of the runs of which every task is watched; None: nothing is.

        Raises:
            Overloaded, StoreFailed: the others could not be told, or the writer is stuck.
        """
        now = self._backend.clock.monotonic()
        before = self._watched
        if runs is None or before is None:
            if runs is before:
                return
        elif runs <= before and (now < self._watch_again or not self._backend.database.shared):
            return
        await self._backend.write(_watch, self._backend.database.watch, runs)
        self._watched, self._watch_again = runs, now + _AGAIN

    def wrote(self, connection: Connection) -> Elsewhere | None:
        """What the others watch, if they have written since this backend did."""
        return self._backend.database.others_wrote(connection)

    def tell_of(self, connection: Connection, changed: Changes) -> None:
        """Let those who watch know what the open transaction has changed."""
        for word in telling.words(changed):
            self._backend.database.tell_at_commit(connection, word)

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
        heard |= dict.fromkeys(idle, 0.0)
        await backend.write(_note, heard, backend.me, backend.clients.facts(heard))
        before = backend.liveness.active()
        found = await backend.look(self._find)
        backend.desk.presence.elsewhere = found.flows
        for session, run_id in found.runs:
            backend.liveness.started(session, run_id)
        for session, run_id in before.difference(found.runs):
            backend.liveness.ended(session, run_id)
        for session in found.monitored:
            at, elsewhere = found.seen.get(session, (0, False))
            # Who hears of it directly judges it. Here word of it comes late, noted there and then read once in a
            # while: so this backend judges it when nobody else has.
            age = (found.now - at) / 1000 - (self._late if elsewhere else 0.0)
            backend.liveness.seen_elsewhere(session, min(max(0.0, age), backend.settings.silence))

    def _find(self, connection: Connection) -> _Found:
        now = signs.server_now(connection, self._backend.clock.now())
        since = now - round((self._backend.settings.silence + self._late) * 1000)
        active = runs.unsettled_of(connection)
        return _Found(
            now,
            signs.since(connection, since, self._backend.me),
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


def _note(
    tx: Transaction, context: Context, heard: dict[str, float], me: str, facts: dict[str, str]
) -> None:
    if heard:
        now = signs.server_now(tx.connection, context.clock.now())
        signs.note(tx.connection, heard, now, me, facts)


def _watch(
    tx: Transaction,
    _context: Context,
    enter: Callable[[Connection, frozenset[int] | None], None],
    runs: frozenset[int] | None,
) -> None:
    enter(tx.connection, runs)
