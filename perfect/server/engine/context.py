"""What every job of the engine needs beside its transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from perfect.server.engine.book import RunBook
from perfect.server.engine.clock import Clock
from perfect.server.engine.liveness import Liveness
from perfect.server.settings import Limits


@dataclass(frozen=True, slots=True)
class Context:
    """The engine's memory and surroundings.

    Attributes:
        clock: the time.
        limits: how much one client may send.
        liveness: the silence clocks.
        call: tells the pollers that a flow has an execution request; may be called on any thread.
        learn: tells the open poll of a session that it has one more flow; likewise.
        book: runs that are being written.
    """

    clock: Clock
    limits: Limits
    liveness: Liveness
    call: Callable[[str], None]
    learn: Callable[[str, str], None]
    book: RunBook = field(default_factory=RunBook)
