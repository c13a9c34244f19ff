"""The engine at work: jobs for the writer, polls that wait, and the regular look at silence and leases."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from perfect.server.engine import endings
from perfect.server.engine.access import Attempts, Doors, touch
from perfect.server.engine.clients import Clients
from perfect.server.engine.clock import Clock, SystemClock
from perfect.server.engine.context import Context
from perfect.server.engine.desk import Desk
from perfect.server.engine.dispatch import WaitingRoom
from perfect.server.engine.firing import Firing
from perfect.server.engine.liveness import Liveness
from perfect.server.engine.news import Newsroom
from perfect.server.engine.outage import Outage
from perfect.server.engine.places import Places
from perfect.server.engine.reached import Reached
from perfect.server.engine.retention import Retention
from perfect.server.engine.sharing import Sharing
from perfect.server.engine.speaker import Speaker
from perfect.server.engine.tally import Times
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
# seconds that the writer may take before it counts as stuck
_PATIENCE = 2.0

T = TypeVar("T")
P = ParamSpec("P")


class Backend:
    """Everything behind the routes.

    Args:
        settings: how it is set up.
        clock: the time.

    Attributes:
        me: its name among the backends on its database.

    Raises:
        ConfigurationError: the database can't be opened.
    """

    def __init__(self, settings: ServerSettings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.me = str(uuid.uuid4())
        self.clock = clock or SystemClock()
        self.database = open_database(settings.db or perfect_home() / "perfect.db")
        self.liveness = Liveness(self.clock, settings.silence)
        self.waiting = WaitingRoom()
        self.doors = Doors(settings)
        self.attempts = Attempts(self.clock, self.write_soon)
        limits = settings.limits
        self.streams = Places("event streams", limits.streams, limits.streams_each)
        self.polls = Places("long polls", limits.polls, limits.polls_each)
        self.logins = Places("logins", limits.logins, limits.logins_each)
        self.desk = Desk(self, self.waiting)
        self.context = Context(
            clock=self.clock,
            limits=settings.limits,
            liveness=self.liveness,
            call=self._call,
            learn=self._learn,
            interrupt=self._interrupt,
            present=self.desk.presence,
            hand=self.desk.hand,
            reschedule=self._reschedule,
            hooks=settings.webhooks,
            public_url=settings.public_url.rstrip("/") or settings.base_path,
        )
        self.firing = Firing(self.clock, self.read, self.write, settings.schedule_grace, limits)
        self.sharing = Sharing(
            self,
            {
                "call": self.waiting.call,
                "learn": self.desk.learn,
                "interrupt": self._interrupt_here,
                "reschedule": self.firing.wake,
                "changed": lambda *facts: self.news.hear(*facts),
                "crowded": lambda: self.news.start_over("more happened than can be told"),
                "missed": lambda: self.news.start_over("what another backend told was missed"),
            },
        )
        self.retention = Retention(self)
        self.reached = Reached(self.clock.monotonic)
        self._writer = Writer(
            self.database.connect_writer,
            settings.queue_bytes,
            self.context.book.forget,
            tell=lambda changed: self.news.tell(changed),
            others=self.sharing if self.database.shared else None,
        )
        self.clients = Clients(
            self.clock, self.liveness, settings.silence, self.me if self.database.shared else None
        )
        self.news = Newsroom(
            *(self.clock, self.clients, self.read, self.desk.presence.all),
            *(self._writer.watch, self.sharing.watch, settings.base_path, self.reached.of_runs),
        )
        self.ingest_time = Times()
        self._started = self.clock.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._publisher: asyncio.Task[None] | None = None
        self._scheduler: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
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
        self._scheduler = asyncio.create_task(self.firing.run())
        self.sharing.start()
        if self.retention.wanted:
            self._keeper = asyncio.create_task(self.retention.run_regularly())

    def let_go(self) -> None:
        """Answer the open polls and end the streams: the backend is about to stop."""
        self.waiting.close()
        self.news.close()

    async def stop(self) -> None:
        """Finish what is queued and close the database."""
        self.let_go()
        for task in (self._scheduler, self._sweeper, self._publisher, self._keeper):
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

    async def look(self, query: Callable[[Connection], T]) -> T:
        """What a query gives on a snapshot, in a thread of its own."""
        return await asyncio.to_thread(self._look, query)

    def _look(self, query: Callable[[Connection], T]) -> T:
        with self.read() as connection:
            return query(connection)

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
        began = self.clock.monotonic()
        result = await asyncio.wrap_future(submitted)
        self.ingest_time.add(self.clock.monotonic() - began)
        return result

    async def alive(self, speaker: Speaker, *, monitored: bool = False) -> None:
        """Note a sign of life.

        Args:
            speaker: whose.
            monitored: from now on its silence means something.
        """
        self.clients.heard(speaker)
        self.desk.presence.seen(speaker.session)
        if self.liveness.seen(speaker.session, monitored=monitored):
            await self.write(_monitor, speaker)

    async def to_cancel(self, speaker: Speaker) -> list[str]:
        """Ids of the session's runs that are to be cancelled."""
        return await asyncio.to_thread(self._to_cancel, speaker.session)

    async def check(self) -> dict[str, str]:
        """How the backend is doing, by what was looked at; all is well where everything is "ok"."""
        jobs, size = self.queue
        full = size >= self.settings.queue_bytes
        checks = {
            "writer": "ok" if self._writer.alive else "is not running",
            "queue": f"is full: {jobs} jobs, {size} bytes" if full else "ok",
            "database": "ok",
        }
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.write(_nothing)
        except TimeoutError:
            checks["database"] = f"has not committed anything for {_PATIENCE:g} s"
        except (Overloaded, StoreFailed) as error:
            checks["database"] = str(error)
        return checks

    @property
    def queue(self) -> tuple[int, int]:
        """Jobs that wait for the writer, and the bytes they hold."""
        return self._writer.waiting

    @property
    def commits(self) -> int:
        """How many transactions were committed since the start."""
        return self._writer.commits

    def uptime(self) -> float:
        """Seconds since the start."""
        return self.clock.monotonic() - self._started

    def _to_cancel(self, session: str) -> list[str]:
        with self.read() as connection:
            return runs.cancelling(connection, session)

    def _call(self, flow_id: str) -> None:
        """Wake a poller, from whatever thread."""
        self.soon(self.waiting.call, flow_id)
        self.sharing.tell("call", flow_id)

    def _learn(self, session: str, flow_id: str, waiting: bool) -> None:
        """A session has one more flow; from whatever thread."""
        self.soon(self.desk.learn, session, flow_id, waiting)
        self.sharing.tell("learn", session, flow_id, waiting)

    def _interrupt(self, session: str, run_id: str) -> None:
        """A run of that session is to be cancelled; from whatever thread."""
        self.soon(self.desk.interrupt, session, run_id)
        self.sharing.tell("interrupt", session, run_id)

    def _interrupt_here(self, session: str, run_id: str) -> None:
        """Another backend was asked to cancel a run, which may have been claimed elsewhere a moment ago."""
        self.liveness.started(session, run_id)
        self.desk.interrupt(session, run_id)

    def _reschedule(self) -> None:
        """There may be an earlier slot of a schedule; from whatever thread."""
        self.soon(self.firing.wake)
        self.sharing.tell("reschedule")

    def soon(self, callback: Callable[..., None], *args: object) -> None:
        """Call on the event loop, unless it is closed: then nobody waits any more."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(callback, *args)

    async def _sweep_regularly(self) -> None:
        outage = Outage(_log, "look at silent clients")
        while True:
            # looked at in time, so that a client that was killed is not missed a moment longer than promised
            await asyncio.sleep(
                max(_SHORTEST_SWEEP, min(self.settings.sweep, self.liveness.soonest()))
            )
            try:
                await self._sweep()
                outage.is_over()
            except (Overloaded, StoreFailed) as error:
                outage.goes_on(error)
            except Exception:
                _log.exception("the look at silent clients failed")

    async def _sweep(self) -> None:
        await self.sharing.sweep()
        await self._end_streams()
        self.clients.forget()
        for session, run_ids in self.liveness.silent():
            for run_id in run_ids:
                await self.write(endings.fall_silent, run_id, self.settings.silence)
            self.liveness.drop(session, run_ids)
        await self.desk.sweep()

    async def _end_streams(self) -> None:
        """End the streams of sessions of the page that are over: logged out, here or elsewhere, too old, or unused."""
        watching = self.news.hub.logins
        if watching:
            now = self.clock.now()
            over, used = await self.look(
                lambda connection: self.doors.over(connection, watching, now)
            )
            self.news.hub.end_of(over)
            for mark in used:
                self.write_soon(touch, mark)


def _monitor(tx: Transaction, context: Context, speaker: Speaker) -> None:
    sessions.ensure(tx.connection, speaker.session, speaker.client, True, context.clock.now())


def _nothing(_tx: Transaction, _context: Context) -> None:
    """A transaction without changes, which still takes the write lock."""
