"""Runs that were, told to a backend as a client tells them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from tests.server.peers import Peer, ended
from tests.support.backend import BackendProcess

HOUR = 3_600_000  # ms
BEGIN = 1_770_000_000_000  # 2026-02-02T02:40:00Z, ms since the epoch
AT_ONCE = 2_000  # events of a request


class Past:
    """What a client did.

    Args:
        backend: that is told.
        client: who tells.
    """

    def __init__(self, backend: BackendProcess, client: str) -> None:
        self.peer = Peer(backend.port, client)

    def tell(
        self,
        flow: str,
        states: Iterable[str],
        *,
        tags: dict[str, str] | None = None,
        begin: int = BEGIN,
        every: int = HOUR,
    ) -> list[str]:
        """The ids of runs of a flow, one for each state, the oldest first.

        Args:
            flow: its name.
            states: that the runs ended in.
            tags: of the flow.
            begin: when the first began, in ms since the epoch.
            every: how long after that the next one began, and so on; ms.
        """
        registered = {"name": flow, "tasks": [{"name": "work"}], "tags": tags or {}}
        self.peer.post("/api/flows", registered).ok()
        told: list[str] = []
        events = self._events(registered, states, begin, every, told)
        while batch := list(islice(events, AT_ONCE)):
            answer = self.peer.ingest(*batch)
            assert answer["rejected"] == [], answer
        return told

    def _events(
        self,
        flow: dict[str, Any],
        states: Iterable[str],
        begin: int,
        every: int,
        told: list[str],
    ) -> Iterator[dict[str, Any]]:
        for number, state in enumerate(states):
            run, t = str(uuid.uuid4()), begin + number * every
            told.append(run)
            yield {"type": "run.started", "run": run, "t": t, "flow": flow, "trigger": "call"}
            yield ended(run, 1, state, t + 5_000)
