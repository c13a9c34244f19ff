"""Where clients ask for work: the open long polls of this process, and what they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from perfect.server.engine import expiry, polling
from perfect.server.engine.dispatch import Offer, Waiter, WaitingRoom
from perfect.server.engine.presence import Presence
from perfect.server.engine.speaker import Speaker
from perfect.server.store import Transaction, queue, requests, runs, sessions

if TYPE_CHECKING:
    from perfect.server.engine.backend import Backend

# seconds in which a connection that is being closed is given the time to say so
_LAST_LOOK = 0.005
_AT_A_TIME = 500


class Desk:
    """Hands execution requests, and word of cancellations, to whoever waits for them.

    Args:
        backend: what it is part of.
        room: the polls that wait.
    """

    def __init__(self, backend: Backend, room: WaitingRoom) -> None:
        self._backend = backend
        self._settings = backend.settings
        self._room = room
        self.presence = Presence(backend.clock.monotonic, backend.settings.silence)
        self._told: dict[str, float] = {}  # by run: when a poll was told that it is to be cancelled

    # --- polls -----------------------------------------------------------------------------

    async def poll(
        self, speaker: Speaker, slots: int | None, gone: Callable[[], Awaitable[None]]
    ) -> dict[str, Any] | None:
        """Wait for an execution request, or for word that a run is to be cancelled.

        Args:
            speaker: who asks.
            slots: free places of a native poller, which will claim; None for one that starts what it is handed.
            gone: returns when the poller has closed the connection.

        Returns:
            The request, ``{"cancel": id}`` for a native poller, or None when there was none in time.
        """
        leaving = asyncio.ensure_future(gone())
        now = asyncio.get_running_loop().time
        deadline = now() + self._settings.poll
        session = speaker.session
        known = self.presence.flows(session)
        if known is None:
            # Entered with what was read before the wait: what is registered meanwhile is learned.
            self.presence.enter(session, ())
            self.presence.begin(session)
            known = self.presence.enter(session, await asyncio.to_thread(self._flows, session))
        else:
            self.presence.begin(session)
        waiter = Waiter(session, known, free=slots is None or slots > 0, claims=slots is not None)
        self._room.enter(waiter)
        offered = None
        answer: dict[str, Any] | None = None
        try:
            while not leaving.done():
                waiter.wake.clear()
                again: float | None = None
                if waiter.handed is not None:
                    answer = waiter.handed.answer
                elif slots is not None:
                    run_id, again = await self._to_cancel(session)
                    answer = None if run_id is None else {"cancel": run_id}
                if answer is not None:
                    pass
                elif waiter.free and waiter.flows:
                    waiter.called = False
                    offered = await self._offer(session, leased=slots is not None)
                    if offered is not None:
                        answer = offered.answer
                        # Has the poller just left? Where handed over means started, look closely; a lease that
                        # nobody claims comes back.
                        await asyncio.wait((leaving,), timeout=_LAST_LOOK if slots is None else 0)
                if answer is not None or self._room.closed:
                    break
                until = deadline if again is None else min(deadline, now() + again)
                waiter.idle = True
                woken = await _woken(waiter.wake, leaving, until)
                waiter.idle = False
                if not woken and until == deadline:
                    break
            if answer is None and waiter.handed is not None:  # at the last moment
                answer = waiter.handed.answer
        finally:
            self._room.leave(waiter)
            self.presence.end(session)
            abandoned = leaving.done()
            leaving.cancel()
            for one in (offered, waiter.handed):
                if one is not None and (abandoned or one.answer is not answer):
                    await self._backend.write(polling.take_back, one)
            if waiter.called and waiter.free and not self._room.closed:
                # the call was for whoever is there: pass it on
                await self._pass_on(session)
        return None if abandoned else answer

    def hand(self, tx: Transaction, flow_id: str, run_id: str) -> bool:
        """Offer the request for a run of a flow to a poll that waits, in the transaction that makes it.

        A poll that waits would be woken after the commit, ask for another transaction and find that request. This
        spares the way there and back.

        Returns:
            Whether the request was given out.
        """
        waiter = self._room.idle(flow_id)
        if waiter is None:
            return False
        offered = polling.offer(
            tx, self._backend.context, waiter.session, **self._rules(waiter.session, leased=True)
        )
        if offered is None:
            waiter.idle = True
            return False
        tx.after_commit(lambda: self._backend.soon(self._handed, waiter, offered))
        return bool(offered.answer["run_id"] == run_id)

    def _handed(self, waiter: Waiter, offered: Offer) -> None:
        if not self._room.hand(waiter, offered):
            self._backend.write_soon(polling.take_back, offered)

    def interrupt(self, session: str, run_id: str) -> None:
        """A run of that session is to be cancelled: its poll is told at once."""
        self._told.pop(run_id, None)
        self._room.interrupt(session)

    def learn(self, session: str, flow_id: str, waiting: bool) -> None:
        """A session has registered a flow; ``waiting``: of which there are requests."""
        self.presence.learn(session, flow_id)
        if waiting:
            self._room.call(flow_id)

    async def _offer(self, session: str, *, leased: bool) -> Offer | None:
        return await self._backend.write(
            polling.offer, session, **self._rules(session, leased=leased)
        )

    def _rules(self, session: str, *, leased: bool) -> dict[str, Any]:
        return {
            "leased": leased,
            "others": self._room.others(session),
            "lease_ms": round(self._settings.lease * 1000),
            "most_offers": self._settings.offers,
        }

    async def _to_cancel(self, session: str) -> tuple[str | None, float | None]:
        """A run of the session that is to be cancelled and was not named to a poll just before.

        Returns:
            Its id; else None, and s until there is one to be named again, None where there is none.
        """
        if not self._backend.liveness.has_runs(session):
            return None, None
        now, every = self._backend.clock.monotonic(), self._settings.heartbeat
        again = None
        for run_id in await asyncio.to_thread(self._cancelling, session):
            left = self._told.get(run_id, -1e9) + every - now
            if left <= 0:
                self._told[run_id] = now
                return run_id, None
            again = left if again is None else min(again, left)
        return None, again

    async def _pass_on(self, session: str) -> None:
        for flow_id in await asyncio.to_thread(self._queued_of, session):
            self._room.call(flow_id)

    def _flows(self, session: str) -> frozenset[str]:
        with self._backend.read() as connection:
            return sessions.flows(connection, session)

    def _cancelling(self, session: str) -> list[str]:
        with self._backend.read() as connection:
            return runs.cancelling(connection, session)

    def _queued_of(self, session: str) -> list[str]:
        with self._backend.read() as connection:
            return [flow for flow, _ in queue.next_flows(connection, session, -1, _AT_A_TIME)]

    # --- regularly -------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Look after requests: those nobody claims, those nobody can take, and those that wait for too long."""
        settings, clock = self._settings, self._backend.clock
        self.presence.forget()
        old = clock.monotonic() - 10 * settings.heartbeat
        for run_id in [one for one, told in self._told.items() if told < old]:
            del self._told[run_id]
        found = await asyncio.to_thread(self._look)
        for run_id in found.exhausted:
            await self._backend.write(expiry.exhausted, run_id, settings.offers)
        for run_id in found.older:
            await self._backend.write(expiry.expired, run_id, settings.request_expiry)
        changed = {
            flow_id: flow_id not in self.presence
            for flow_id, lonely in found.flows.items()
            if lonely is (flow_id in self.presence)
        }
        if changed or found.missing:
            await self._backend.write(expiry.mark, changed, found.missing)
        if self._room:
            for flow_id, last in found.lapsed:
                self._room.call(flow_id, but=last)
            for flow_id in found.flows:
                if flow_id in self.presence:
                    self._room.call(flow_id)

    def _look(self) -> expiry.Found:
        settings = self._settings
        with self._backend.read() as connection:
            now = self._backend.clock.now()
            return expiry.Found(
                requests.exhausted(connection, now, settings.offers, _AT_A_TIME),
                requests.older(connection, now - round(settings.request_expiry * 1000), _AT_A_TIME),
                requests.lapsed(connection, now),
                queue.listed(connection),
                queue.missing(connection, _AT_A_TIME),
            )


async def _woken(wake: asyncio.Event, leaving: asyncio.Future[None], deadline: float) -> bool:
    """Wait for a call; whether it came before the deadline and before the poller left."""
    waking = asyncio.ensure_future(wake.wait())
    try:
        await asyncio.wait(
            (leaving, waking),
            timeout=deadline - asyncio.get_running_loop().time(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        return waking.done()
    finally:
        waking.cancel()
        with suppress(asyncio.CancelledError):
            await waking
