"""The engine at work: jobs for the writer, polls that wait, and the regular look at silence and leases."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from perfect.server.engine import endings, polling
from perfect.server.engine.access import Attempts, Doors
from perfect.server.engine.clients import Clients
from perfect.server.engine.clock import Clock, SystemClock
from perfect.server.engine.context import Context
from perfect.server.engine.dispatch import Waiter, WaitingRoom
from perfect.server.engine.liveness import Liveness
from perfect.server.engine.news import Newsroom
from perfect.server.engine.places import Places
from perfect.server.engine.speaker import Speaker
from perfect.server.settings import ServerSettings, perfect_home
from perfect.server.store import (
    Overloaded,
    StoreFailed,
    Transaction,
    Writer,
    audit,
    open_database,
    requests,
    runs,
    sessions,
)
from perfect.server.store.records import Actor

_log = logging.getLogger(__name__)

_SHORTEST_SWEEP = 0.01
# seconds in which a connection that is being closed is given the time to say so
_LAST_LOOK = 0.005

T = TypeVar("T")
P = ParamSpec("P")


class Backend:
    """Everything behind the routes.

    Args:
        settings: how it is set up.
        clock: the time.

    Raises:
        ConfigurationError: the database can't be opened.
    """

    def __init__(self, settings: ServerSettings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.database = open_database(settings.db or perfect_home() / "perfect.db")
        self.liveness = Liveness(self.clock, settings.silence)
        self.waiting = WaitingRoom()
        self.doors = Doors(settings)
        self.attempts = Attempts(self.clock, self.write_soon)
        limits = settings.limits
        self.streams = Places("event streams", limits.streams, limits.streams_each)
        self.polls = Places("long polls", limits.polls, limits.polls_each)
        self.context = Context(self.clock, settings.limits, self.liveness, self._call, self._learn)
        self._writer = Writer(
            self.database.connect_writer,
            settings.queue_bytes,
            self.context.book.forget,
            tell=lambda changed: self.news.tell(changed),
            others_wrote=self.database.others_wrote if self.database.shared else None,
        )
        self.clients = Clients(self.clock, self.liveness, settings.silence)
        self.news = Newsroom(
            self.clock, self.clients, self.read, self._writer.watch, settings.base_path
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._publisher: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up work; what was active before the start is active again, with fresh silence clocks."""
        self._loop = asyncio.get_running_loop()
        self._writer.start()
        with self.read() as connection:
            for run in runs.unsettled(connection):
                assert run.session is not None
                self.liveness.started(run.session, run.id)
            monitored = sessions.monitored(connection, self.liveness.sessions())
        for session in monitored:
            self.liveness.seen(session, monitored=True)
        self._sweeper = asyncio.create_task(self._sweep_regularly())
        self._publisher = asyncio.create_task(self.news.run())

    def let_go(self) -> None:
        """Answer the open polls and end the streams: the backend is about to stop."""
        self.waiting.close()
        self.news.close()

    async def stop(self) -> None:
        """Finish what is queued and close the database."""
        self.let_go()
        for task in (self._sweeper, self._publisher):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await asyncio.to_thread(self._writer.close)
        self.database.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot to read from; blocks, so not to be used on the event loop but at the start."""
        with self.database.read() as connection:
            yield connection

    async def write(
        self,
        job: Callable[Concatenate[Transaction, Context, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a job of the engine on the writer; returns after its commit.

        Raises:
            Refusal: as the job does.
            Overloaded: too much is waiting.
            StoreFailed: the database would not take it.
        """
        submitted = self._writer.submit(lambda tx: job(tx, self.context, *args, **kwargs))
        return await asyncio.wrap_future(submitted)

    async def act(
        self,
        by: Actor,
        action: str,
        about: str | None,
        job: Callable[Concatenate[Transaction, Context, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As ``write``, for what somebody asks for: noted in the audit table in the same transaction.

        Args:
            by: who asks.
            action: what is done, in a word or two.
            about: id of the run; None for the run whose id the job returns, if it does.
            job: what does it.
            args: the job's.
            kwargs: the job's.
        """

        def noted(tx: Transaction, context: Context) -> T:
            result = job(tx, context, *args, **kwargs)
            run_id = result if about is None and isinstance(result, str) else about
            audit.note(tx.connection, context.clock.now(), run_id, None, action, by)
            return result

        return await self.write(noted)

    def write_soon(
        self,
        job: Callable[Concatenate[Transaction, Context, P], object],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Run a job on the writer some time, if it can be; for what nobody waits for."""
        with suppress(Overloaded):
            self._writer.submit(lambda tx: job(tx, self.context, *args, **kwargs))

    async def write_body(
        self,
        job: Callable[[Transaction, Context, Speaker, bytes], T],
        speaker: Speaker,
        body: bytes,
    ) -> T:
        """As ``write``, for a job that carries a large body while it waits."""
        submitted = self._writer.submit(
            lambda tx: job(tx, self.context, speaker, body), size=len(body)
        )
        return await asyncio.wrap_future(submitted)

    async def alive(self, speaker: Speaker, *, monitored: bool = False) -> None:
        """Note a sign of life.

        Args:
            speaker: whose.
            monitored: from now on its silence means something.
        """
        self.clients.heard(speaker)
        if self.liveness.seen(speaker.session, monitored=monitored):
            await self.write(_monitor, speaker)

    async def to_cancel(self, speaker: Speaker) -> list[str]:
        """Ids of the session's runs that are to be cancelled."""
        return await asyncio.to_thread(self._to_cancel, speaker.session)

    async def check(self) -> None:
        """Make sure that the database can be read and written.

        Raises:
            StoreFailed: it can't.
        """
        await self.write(_nothing)

    async def poll(
        self, speaker: Speaker, slots: int | None, gone: Callable[[], Awaitable[None]]
    ) -> dict[str, Any] | None:
        """Wait for an execution request.

        Args:
            speaker: who asks.
            slots: free places of a native poller, which will claim; None for one that starts what it is handed.
            gone: returns when the poller has closed the connection.

        Returns:
            The request, or None when there was none in time.
        """
        leaving = asyncio.ensure_future(gone())
        deadline = self._now() + self.settings.poll
        waiter = Waiter(speaker.session, frozenset(), free=slots is None or slots > 0)
        self.waiting.enter(waiter)
        offered = None
        try:
            if waiter.free:
                # entered first: a flow that is registered meanwhile is not overlooked, nor written over
                known = await asyncio.to_thread(self._flows, speaker.session)
                waiter.flows |= known
            while not leaving.done():
                waiter.wake.clear()
                if waiter.flows:
                    offered = await self._offer(speaker, leased=slots is not None)
                    if offered is not None:
                        # Has the poller just left? Where handed over means started, look closely; a lease that
                        # nobody claims comes back.
                        await asyncio.wait((leaving,), timeout=_LAST_LOOK if slots is None else 0)
                if offered is not None or self.waiting.closed:
                    break
                waking = asyncio.ensure_future(waiter.wake.wait())
                await asyncio.wait(
                    (leaving, waking),
                    timeout=deadline - self._now(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                woken = waking.done()
                waking.cancel()
                if not woken:
                    break
        finally:
            self.waiting.leave(waiter)
            abandoned = leaving.done()
            leaving.cancel()
            if abandoned and offered is not None:
                await self.write(polling.take_back, offered)
            elif waiter.wake.is_set() and not self.waiting.closed:
                # the call was for whoever is there: pass it on
                for flow_id in waiter.flows:
                    self.waiting.call(flow_id)
        return None if offered is None or abandoned else offered.answer

    async def _offer(self, speaker: Speaker, *, leased: bool) -> polling.Offer | None:
        return await self.write(
            polling.offer,
            speaker,
            leased=leased,
            others=self.waiting.flows_of_others(speaker.session),
            lease_ms=round(self.settings.lease * 1000),
        )

    def _flows(self, session: str) -> frozenset[str]:
        with self.read() as connection:
            return sessions.flows(connection, session)

    def _to_cancel(self, session: str) -> list[str]:
        with self.read() as connection:
            return runs.cancelling(connection, session)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _call(self, flow_id: str) -> None:
        """Wake a poller, from whatever thread."""
        self._soon(self.waiting.call, flow_id)

    def _learn(self, session: str, flow_id: str) -> None:
        """A session has one more flow; from whatever thread."""
        self._soon(self.waiting.learn, session, flow_id)

    def _soon(self, callback: Callable[..., None], *args: str) -> None:
        """Call on the event loop, unless it is closed: then nobody waits any more."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(callback, *args)

    async def _sweep_regularly(self) -> None:
        while True:
            # looked at in time, so that a client that was killed is not missed a moment longer than promised
            await asyncio.sleep(
                max(_SHORTEST_SWEEP, min(self.settings.sweep, self.liveness.soonest()))
            )
            try:
                await self._sweep()
            except (Overloaded, StoreFailed) as error:
                _log.warning("the look at silent clients is put off: %s", error)
            except Exception:
                _log.exception("the look at silent clients failed")

    async def _sweep(self) -> None:
        self.clients.forget()
        for session, run_ids in self.liveness.silent():
            for run_id in run_ids:
                await self.write(endings.fall_silent, run_id, self.settings.silence)
            self.liveness.drop(session, run_ids)
        if self.waiting:
            for flow_id, last in await asyncio.to_thread(self._open_requests):
                self.waiting.call(flow_id, but=last)

    def _open_requests(self) -> list[tuple[str, str | None]]:
        with self.read() as connection:
            return requests.waiting(connection, self.clock.now())


def _monitor(tx: Transaction, context: Context, speaker: Speaker) -> None:
    sessions.ensure(tx.connection, speaker.session, speaker.client, True, context.clock.now())


def _nothing(_tx: Transaction, _context: Context) -> None:
    """A transaction without changes, which still takes the write lock."""
