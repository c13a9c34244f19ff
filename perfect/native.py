"""Reporting in batches of events (PROTOCOL part 4)."""

from __future__ import annotations

import gzip
import logging
from typing import Any

from perfect.api import PerfectAPIClient
from perfect.documented import register
from perfect.errors import BackendRefused
from perfect.events import Event

log = logging.getLogger("perfect")

GZIP_FROM = 8 << 10  # bytes; below it, compressing costs more than it saves
COMPLAINTS = 5  # refused events that are spoken of one by one


class NativeReporter:
    """``POST /api/ingest``: what is repeated after a lost answer changes nothing there."""

    native = True

    def __init__(self, client: PerfectAPIClient) -> None:
        self.settled = 0
        self.rejected = 0  # events that the backend refused for good
        self._client = client

    def send(self, events: list[Event]) -> None:
        """Send a batch; one that is too large, or holds an event that spoils it, is halved."""
        body = f'{{"events":[{",".join([event.text for event in events])}]}}'.encode()
        if len(body) >= GZIP_FROM:
            body = gzip.compress(body, 1)
        try:
            answer = self._client.request("POST", "/api/ingest", body)
        except BackendRefused as refusal:
            if refusal.status not in (400, 413, 422):
                raise
            if len(events) > 1:
                middle = len(events) // 2
                self.send(events[:middle])
                self.send(events[middle:])
                return
            self._reject(events[0].seq, refusal.error)
        else:
            rejected = answer.get("rejected") if isinstance(answer, dict) else None
            for entry in rejected if isinstance(rejected, list) else ():
                if isinstance(entry, dict):
                    self._reject(entry.get("seq"), entry.get("error"))
        self.settled = events[-1].seq

    def register(self, flow: dict[str, Any]) -> None:
        register(self._client, flow)

    def notes(self) -> dict[str, str]:
        return {}

    def recall(self, notes: dict[str, str]) -> None:
        """Nothing: the events say it all."""

    def tick(self) -> None:
        """Nothing: backend and page compute progress themselves."""

    def next_tick(self) -> float | None:
        return None

    def _reject(self, seq: Any, reason: Any) -> None:
        self.rejected += 1
        if self.rejected <= COMPLAINTS:
            log.warning("perfect: the backend refused event %s: %s", seq, reason)
