"""Letting go of old runs, in steps so small that clients never wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perfect.server.engine.context import Context
from perfect.server.store import Transaction, retention, signs

if TYPE_CHECKING:
    from perfect.server.engine.backend import Backend

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
        while await backend.write(remove_notes, backend.liveness.sessions(), cutoff):
            pass
        while await backend.write(release, backend.database.release):
            pass
        return gone

    def _due(self, connection: object) -> list[int]:
        found: list[int] = []
        if self._age is not None:
            before = self._backend.clock.now() - round(self._age * 1000)
            found = retention.aged(connection, before, _BATCH)  # type: ignore[arg-type]
        if self._count is not None and not found:
            found = retention.surplus(connection, self._count, _BATCH)  # type: ignore[arg-type]
        return found
