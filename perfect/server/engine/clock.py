"""The time, injected so that tests can make it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the engine asks for the time."""

    def now(self) -> int:
        """Milliseconds since the epoch, for what is kept."""

    def monotonic(self) -> float:
        """Seconds that never jump, for silence and leases of this process."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


def iso(milliseconds: int | None) -> str | None:
    """A time as it is written on the wire: ISO 8601, UTC, with milliseconds."""
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"
