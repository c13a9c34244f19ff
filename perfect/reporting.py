"""The two protocols behind one interface, and which of them a backend speaks."""

from __future__ import annotations

from typing import Any, Protocol

from perfect.api import PerfectAPIClient
from perfect.documented import DocumentedReporter
from perfect.errors import BackendRefused
from perfect.events import Event
from perfect.native import NativeReporter


class Reporter(Protocol):
    """Sends events in one of the two protocols. Used by one thread at a time.

    Attributes:
        native: whether any request is a sign of life to the backend.
        settled: the number up to which everything is done with, also when `send` has raised.
        flows_at_once: how many flows one request may register.
    """

    native: bool
    settled: int
    flows_at_once: int

    def send(self, events: list[Event]) -> None:
        """Send events, oldest first.

        Raises:
            BackendError: some could not be sent now; those after `settled` are to be tried again.
        """

    def register(self, flows: list[dict[str, Any]]) -> None:
        """Tell the backend of flows that this process serves: of `flows_at_once` at most.

        Raises:
            BackendError: it could not be told now.
        """

    def notes(self) -> dict[str, str]:
        """What another process needs to go on with the runs that are under way."""

    def recall(self, notes: dict[str, str]) -> None:
        """Take up another process's notes."""

    def tick(self) -> None:
        """Tell the progress of running tasks, where the backend wants to be told."""

    def next_tick(self) -> float | None:
        """s until `tick` is due, or None."""


def shake_hands(client: PerfectAPIClient) -> Reporter:
    """Find out which protocol the backend speaks (PROTOCOL part 4, handshake).

    Raises:
        BackendError: that can't be told yet.
    """
    try:
        answer = client.request("GET", "/api/version")
    except BackendRefused as refusal:
        # 200 with something else than JSON is a documented backend's catch-all page.
        if refusal.status not in (200, 404):
            raise
        return DocumentedReporter(client)
    if isinstance(answer, dict) and answer.get("name") == "perfect" and answer.get("protocol") == 2:
        limits = answer.get("limits")
        most = limits.get("flows") if isinstance(limits, dict) else None
        return NativeReporter(client, most if isinstance(most, int) else 1)
    return DocumentedReporter(client)
