"""What every job of the engine needs beside its transaction."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field

from perfect.server.engine.book import RunBook
from perfect.server.engine.clock import Clock
from perfect.server.engine.liveness import Liveness
from perfect.server.engine.tally import Tally
from perfect.server.settings import Limits
from perfect.server.store import Transaction
from perfect.server.webhooks import Webhook


@dataclass(frozen=True, slots=True)
class Context:
    """The engine's memory and surroundings.

    Attributes:
        clock: the time.
        limits: how much one client may send.
        liveness: the silence clocks.
        call: tells the pollers that a flow has an execution request; may be called on any thread.
        learn: tells the open poll of a session that it has one more flow, and whether there are requests for it;
            likewise.
        interrupt: tells the open poll of a session that a run of its is to be cancelled; likewise.
        present: the flows that connected sessions have.
        hand: offers the request for a run of a flow to a poll that waits, in the transaction that makes it; False
            if there is none, so that the pollers must be called.
        book: runs that are being written.
        tally: what was done since the start.
        hooks: who is to be told of runs that go wrong.
        public_url: what links to the page begin with.
        reschedule: tells whoever waits for the next slot of a schedule that it may come earlier; on any thread.
    """

    clock: Clock
    limits: Limits
    liveness: Liveness
    call: Callable[[str], None]
    learn: Callable[[str, str, bool], None]
    interrupt: Callable[[str, str], None]
    present: Container[str]
    hand: Callable[[Transaction, str, str], bool] = lambda tx, flow_id, run_id: False
    book: RunBook = field(default_factory=RunBook)
    tally: Tally = field(default_factory=Tally)
    hooks: tuple[Webhook, ...] = ()
    public_url: str = ""
    reschedule: Callable[[], None] = lambda: None
