"""Reporting in batches of events (PROTOCOL part 4)."""

from __future__ import annotations

import gzip
import logging
from typing import Any

from perfect.api import PerfectAPIClient, encode
from perfect.documented import not_taken, register
from perfect.errors import BackendRefused
from perfect.events import Event

log = logging.getLogger("perfect")

GZIP_FROM = 8 << 10  # bytes; below it, compressing costs more than it saves
MOST_FLOWS = 250  # registered in one request: more would hold up what others write
COMPLAINTS = 5  # refused events that are spoken of one by one


class NativeReporter:
    """``POST /api/ingest``: what is repeated after a lost answer changes nothing there.

    Args:
        client: carries the requests.
        most_flows: that the backend takes in one request.
    """

    native = True

    def __init__(self, client: PerfectAPIClient, most_flows: int = 1) -> None:
        self.settled = 0
        self.flows_at_once = max(1, min(most_flows, MOST_FLOWS))
        self.rejected = 0  # events that the backend refused for good
        self._client = client

    def send(self, events: list[Event]) -> None:
        """Send a batch; one that is too large, or holds an event that spoils it, is halved."""
        body = f'{{"events":[{",".join([event.text for event in events])}]}}'.encode()
        try:
            answer = self._client.request("POST", "/api/ingest", _packed(body))
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
            for entry in _rejected(answer):
                self._reject(entry.get("seq"), entry.get("error"))
        self.settled = events[-1].seq

    def register(self, flows: list[dict[str, Any]]) -> None:
        """Register them in one request; what is too large for one is halved."""
        if len(flows) == 1:
            register(self._client, flows[0])
            return
        try:
            body = _packed(encode({"flows": flows}))
            answer = self._client.request("POST", "/api/flows/batch", body)
        except BackendRefused as refusal:
            if refusal.may_pass:
                raise
            middle = len(flows) // 2
            self.register(flows[:middle])
            self.register(flows[middle:])
            return
        for entry in _rejected(answer):
            index = entry.get("index")
            if isinstance(index, int) and 0 <= index < len(flows):
                not_taken(flows[index], entry.get("error"))

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


def _packed(body: bytes) -> bytes:
    return gzip.compress(body, 1) if len(body) >= GZIP_FROM else body


def _rejected(answer: Any) -> list[dict[str, Any]]:
    found = answer.get("rejected") if isinstance(answer, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
