"""How far runs are, for lists and the event stream: of a run with very many tasks this is not summed up each time.

That takes tens of ms per 50,000 tasks. What was found is believed for a multiple of the time that it took, so that
looking at large runs costs little however often it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from perfect.server.engine import endings
from perfect.server.store.records import RunRecord

_MANY = 2_000
_MULTIPLE = 20
_LONGEST = 5.0  # s
_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class _Found:
    state: str
    progress: float
    until: float


class Reached:
    """Remembers the progress of large runs; any thread may ask.

    Args:
        monotonic: seconds that never go back.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._found: dict[int, _Found] = {}

    def of_runs(
        self, connection: Connection, records: list[RunRecord], now: int
    ) -> dict[int, float]:
        """As `endings.of_runs`, of large runs some seconds late at the most."""
        small = [record for record in records if record.tasks <= _MANY]
        found = endings.of_runs(connection, small, now)
        for record in records:
            if record.tasks > _MANY:
                found[record.key] = self._of_large(connection, record, now)
        return found

    def _of_large(self, connection: Connection, record: RunRecord, now: int) -> float:
        began = self._monotonic()
        known = self._found.get(record.key)
        if known is None or known.state != record.state or known.until < began:
            progress = endings.of_runs(connection, [record], now)[record.key]
            ended = self._monotonic()
            until = ended + min(_LONGEST, (ended - began) * _MULTIPLE)
            known = _Found(record.state, progress, until)
            if len(self._found) >= _REMEMBERED:
                self._found = {}
            self._found[record.key] = known
        return known.progress
