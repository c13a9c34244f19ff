"""Execution requests: who may have which, and who is waiting for one.

A request is queued, then leased to one native session that must claim it in time, else it is offered again,
to another session first. What is queued and leased is kept in the store; here are the rules, and the pollers
of this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from perfect.server.engine.refusals import Conflict


class RequestState(StrEnum):
    """Where an execution request stands."""

    QUEUED = "queued"
    LEASED = "leased"
    CLAIMED = "claimed"


@dataclass(frozen=True, slots=True)
class Request:
    """An execution request as it is kept.

    Attributes:
        key: rises with every request: the order of service.
        run: key of the run it asks for.
        flow_id: the flow to run.
        state: queued, leased or claimed.
        session: who has, or last had, the lease or the claim.
        lease: the lease's id.
        lease_until: when an unclaimed lease ends; ms since the epoch.
        offers: how often it was leased.
    """

    key: int
    run: int
    flow_id: str
    state: str
    session: str | None
    lease: str | None
    lease_until: int | None
    offers: int = 0


def choose(
    requests: Iterable[Request],
    session: str,
    others: Container[str],
    now: int,
    lease_ms: int,
    most_offers: int = 3,
) -> Request | None:
    """The first request that may be given to a session, or None.

    Args:
        requests: those of the session's flows that are queued or leased, oldest first.
        session: who asks.
        others: flows for which another session is waiting.
        now: ms since the epoch.
        lease_ms: how long a lease lasts; for as long again, one that ended unclaimed is kept for another
            session when there is one.
        most_offers: how often a request is offered; one that was so often will be given up.
    """
    for request in requests:
        if request.state == RequestState.QUEUED:
            return request
        until = request.lease_until or 0
        if request.state != RequestState.LEASED or now < until or request.offers >= most_offers:
            continue
        if request.session != session or request.flow_id not in others or now >= until + lease_ms:
            return request
    return None


def check_claim(request: Request | None, session: str, lease: str, *, ended: bool) -> bool:
    """Whether a session may execute the request whose lease it holds.

    Args:
        request: as it is kept, or None when there is none for that run.
        session: who claims.
        lease: the lease it was given.
        ended: the run is over.

    Returns:
        True for a claim; False when this very claim was granted before (its answer was lost on the way).

    Raises:
        Conflict: the lease is not this session's, or not valid any more.
    """
    if request is None:
        raise Conflict("nobody asked for this run to be executed")
    if request.session != session or request.lease != lease:
        raise Conflict("the lease is no longer yours: the request was offered to another session")
    if request.state == RequestState.LEASED:
        return True
    if request.state == RequestState.CLAIMED and not ended:
        return False
    raise Conflict("this request was claimed before")


@dataclass(frozen=True, slots=True)
class Offer:
    """A request as it goes to a poller.

    Attributes:
        answer: the JSON of the answer.
        before: the request as it was, to put it back when the poller has gone.
    """

    answer: dict[str, Any]
    before: Request


@dataclass(eq=False, slots=True)
class Waiter:
    """One open long poll.

    Attributes:
        session: whose poll it is.
        flows: flows it may be given, also those registered while it waits; the session's own set.
        free: whether it has a free place; one without only wants to hear of cancellations.
        claims: it will claim what it is given, so it may be given something without being asked first.
        idle: nobody has looked yet whether there is something for it.
        wake: set when there may be something for it.
        called: whether that is a request, which somebody else must look for if this poll does not.
        handed: what it was given while it waited.
    """

    session: str
    flows: set[str] | frozenset[str]
    free: bool = True
    claims: bool = False
    idle: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    called: bool = False
    handed: Offer | None = None

    def call(self) -> None:
        """There is a request for it."""
        self.called = True
        self.wake.set()


class WaitingRoom:
    """The open long polls of this process, in order of arrival.

    To be used on the event loop only, but for what says otherwise.

    Attributes:
        calls: how often there was word of a request.
        closed: nobody is to wait any more.
    """

    def __init__(self) -> None:
        self._waiters: dict[Waiter, None] = {}
        self.calls = 0
        self.closed = False

    def __len__(self) -> int:
        return len(self._waiters)

    def enter(self, waiter: Waiter) -> None:
        """A poll has begun to wait."""
        self._waiters[waiter] = None
        if self.closed:
            waiter.wake.set()

    def leave(self, waiter: Waiter) -> None:
        """A poll waits no more."""
        self._waiters.pop(waiter, None)

    def call(self, flow_id: str, but: str | None = None) -> None:
        """There is a request for that flow: wake whoever has waited longest for one.

        Args:
            flow_id: of which flow.
            but: the session that comes last, because it did not claim the request.
        """
        self.calls += 1
        last = None
        for waiter in self._waiters:
            if waiter.free and flow_id in waiter.flows and not waiter.called:
                if waiter.session != but:
                    waiter.call()
                    return
                last = last or waiter
        if last is not None:
            last.call()

    def idle(self, flow_id: str) -> Waiter | None:
        """The poll that `call` would wake, if it claims what it is given; not idle from now on. On any thread.

        Only a guess: it may have ended, or been given something, before it hears of that.
        """
        for waiter in list(self._waiters):  # a copy made in one step
            if waiter.idle and waiter.free and flow_id in waiter.flows:
                if not waiter.claims:
                    return None
                waiter.idle = False
                return waiter
        return None

    def hand(self, waiter: Waiter, offer: Offer) -> bool:
        """Answer a poll with a request; False if it has ended, or was given another one."""
        if waiter not in self._waiters or waiter.handed is not None:
            return False
        waiter.handed = offer
        waiter.wake.set()
        return True

    def interrupt(self, session: str) -> None:
        """A run of that session is to be cancelled: wake its polls."""
        for waiter in self._waiters:
            if waiter.session == session:
                waiter.wake.set()

    def others(self, session: str) -> Container[str]:
        """Flows for which a session other than this one is waiting; may be asked on any thread."""
        return _Others(self._waiters, session)

    def close(self) -> None:
        """Wake everyone: the backend is shutting down."""
        self.closed = True
        for waiter in self._waiters:
            waiter.wake.set()


class _Others:
    def __init__(self, waiters: dict[Waiter, None], session: str) -> None:
        self._waiters = waiters
        self._session = session

    def __contains__(self, flow_id: object) -> bool:
        # a copy made in one step: the event loop goes on meanwhile
        return any(
            waiter.free and waiter.session != self._session and flow_id in waiter.flows
            for waiter in list(self._waiters)
        )
