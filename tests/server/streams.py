"""Reading server-sent events over a real socket."""

from __future__ import annotations

import http.client
import json
from typing import Any, NamedTuple


class Event(NamedTuple):
    kind: str
    data: Any
    id: str | None


class Reader:
    """One open stream; the status and headers of its answer are known at once."""

    def __init__(
        self,
        port: int,
        run: str | None = None,
        last: str | None = None,
        timeout: float | None = 20,
        more: dict[str, str] | None = None,
    ) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        query = "" if run is None else f"?run={run}"
        headers = (more or {}) | ({} if last is None else {"Last-Event-ID": last})
        self.connection.request("GET", f"/api/stream{query}", headers=headers)
        self.response = self.connection.getresponse()
        self.last = last

    def next(self) -> Event | None:
        """The next event; None when the stream has ended."""
        fields: dict[str, str] = {}
        while line := self.response.readline():
            text = line.decode().rstrip("\n")
            if not text and "event" in fields:
                self.last = fields.get("id", self.last)
                return Event(fields["event"], json.loads(fields["data"]), fields.get("id"))
            name, _, value = text.partition(": ")
            if name:
                fields[name] = value
        return None

    def until(self, kind: str, **facts: Any) -> list[Event]:
        """Events up to and including the first of that kind whose data has these facts."""
        seen: list[Event] = []
        while (event := self.next()) is not None:
            seen.append(event)
            if event.kind == kind and facts.items() <= event.data.items():
                return seen
        raise AssertionError(f"the stream ended without {kind} {facts}: {seen}")

    def close(self) -> None:
        self.response.close()
        self.connection.close()
