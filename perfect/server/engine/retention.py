"""Letting go of old runs, in steps so small that clients never wait for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from perfect.server.engine.context import Context
from perfect.server.engine.outage import Outage
from perfect.server.store import Overloaded, StoreFailed, Transaction, retention, signs

if TYPE_CHECKING:
    from perfect.server.engine.backend import Backend

_log = logging.getLogger(__name__)

# of one transaction: some 20 ms
_ROWS = 4_000
_RUNS = 100
_PAGES = 500
# what even the smallest run costs, in rows
_EACH = 10
_BATCH = 1_000
# Sessions are remembered for as long at least: the sequence number of one keeps what it sent from being
# applied again, and its flows are what it is offered.
_SESSIONS_MS = 30 * 24 * 3600 * 1000


class Retention:
    """What is kept, and for how long.

    Args:
        backend: what it is part of.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._age = backend.settings.retain
        self._count = backend.settings.retain_runs

    @property
    def wanted(self) -> bool:
        """Whether anything is ever to be removed."""
        return self._age is not None or self._count is not None

    async def run_regularly(self) -> None:
        """One pass after another, until cancelled."""
        outage = Outage(_log, "removing old runs")
        while True:
            # first of all a wait: who is still there must have had the time to say so
            await asyncio.sleep(self._backend.settings.retain_every)
            try:
                if gone := await self.run():
                    _log.info("%d old runs were removed", gone)
                outage.is_over()
            except (Overloaded, StoreFailed) as error:
                outage.goes_on(error)
            except Exception:
                _log.exception("removing old runs failed")

    async def run(self) -> int:
        """One pass: remove what is too old or too much; returns how many runs that were."""
        backend, gone = self._backend, 0
        while keys := await backend.look(self._due):
            before = gone
            while keys:
                keys, removed = await backend.write(remove, keys)
                gone += removed
            if gone == before:
                break  # nothing of it could be removed: not again and again
        cutoff = None if self._age is None else backend.clock.now() - round(self._age * 1000)
        heard = backend.liveness.heard(_SESSIONS_MS / 1000)
        while await backend.write(remove_notes, heard, backend.me, cutoff):
            pass
        while await backend.write(release, backend.database.release):
            pass
        return gone

    def _due(self, connection: Connection) -> list[int]:
        found: list[int] = []
        if self._age is not None:
            before = self._backend.clock.now() - round(self._age * 1000)
            found = retention.aged(connection, before, _BATCH)
        if self._count is not None and not found:
            found = retention.surplus(connection, self._count, _BATCH)
        return found


def remove(tx: Transaction, context: Context, keys: Sequence[int]) -> tuple[list[int], int]:
    """Remove the first of these runs, as far as one step goes; returns which are left, and how many are gone."""
    budget, gone = _ROWS, 0
    for number, key in enumerate(keys[:_RUNS]):
        cost, run_id = retention.remove(tx.connection, key, budget)
        if run_id is None:
            return list(keys[number:]), gone
        if run_id:
            gone += 1
            context.book.drop(run_id)
        budget -= max(_EACH, cost)
        if budget <= 0:
            return list(keys[number + 1 :]), gone
    return list(keys[_RUNS:]), gone


def remove_notes(
    tx: Transaction, context: Context, heard: Mapping[str, float], me: str, cutoff: int | None
) -> bool:
    """Remove what else is too old: audit entries, logins, sessions; returns whether there may be more.

    Args:
        tx: the transaction.
        context: the engine's.
        heard: sessions that were heard of lately, and how many seconds ago.
        me: the backend that has heard of them.
        cutoff: ms since the epoch; None keeps all but sessions.
    """
    connection = tx.connection
    now = signs.server_now(connection, context.clock.now())
    signs.note(connection, heard, now, me)
    signs.enter_unknown(connection, now)
    oldest = now - _SESSIONS_MS
    gone = signs.forget(connection, oldest if cutoff is None else min(oldest, cutoff), _BATCH)
    if cutoff is not None:
        gone = max(gone, retention.remove_notes(connection, cutoff, _BATCH))
    return gone >= _BATCH


def release(
    tx: Transaction, _context: Context, give_back: Callable[[Connection, int], int]
) -> bool:
    """Give space back to the file system; returns whether there is more."""
    return give_back(tx.connection, _PAGES) > 0
