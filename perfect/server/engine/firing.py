"""Running what schedules ask for: the job that deals with the slots that have come, and the loop that waits for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from sqlalchemy import Connection

from perfect.server.engine import registry, slots
from perfect.server.engine.clock import Clock
from perfect.server.engine.context import Context
from perfect.server.engine.outage import Outage
from perfect.server.engine.refusals import Invalid, Refusal
from perfect.server.engine.schedules import (
    ACTIVE,
    KEPT_SLOTS,
    MOST_CAUGHT_UP,
    MOST_LEFT_OUT,
    UNFIT,
    judge,
    schedule_of,
    unfit,
)
from perfect.server.settings import Limits
from perfect.server.store import Overloaded, StoreFailed, Transaction, schedules
from perfect.server.store.records import ScheduleRecord

_log = logging.getLogger(__name__)

# slots in one transaction, for which clients must wait meanwhile
BATCH = 50
# schedules in one look
_AT_ONCE = 50
# s; the clock may be set, the machine may sleep, another backend may enter a schedule
_LONGEST_WAIT = 5.0
_WAIT_AFTER_FAILURE = 1.0
_UNKNOWN_ZONE_PUT_OFF = 60_000  # ms


def fire(tx: Transaction, context: Context, schedule_id: str, grace: int) -> None:
    """Deal with the slots of a schedule that have come: run them, or leave them out with a reason.

    Args:
        tx: the transaction, in which all of that happens or nothing.
        context: the engine's.
        schedule_id: which schedule; one that is gone is none of our business.
        grace: how late a slot may be run although it is not to be caught up with; ms.
    """
    record = schedules.by_id(tx.connection, schedule_id, lock=True)
    if record is None:
        return
    now = context.clock.now()
    try:
        schedule = schedule_of(record)
    except Invalid as error:  # registered where its zone was known
        _log.warning("schedule %s can't be followed: %s", record.id, error)
        record.next = now + _UNKNOWN_ZONE_PUT_OFF
        schedules.save(tx.connection, record)
        return
    most = MOST_CAUGHT_UP + 1 if schedule.catchup == "all" else MOST_LEFT_OUT
    due = slots.newest(schedule, record.cursor, now, most)
    more = len(due) == most
    judged = judge(schedule, due, now, grace, paused=bool(record.paused), more=more)
    # many runs are made in several transactions
    batch = judged[:BATCH] if schedule.catchup == "all" else judged
    for slot, reason in batch:
        settle(tx, context, record, slot, reason)
    if batch:
        record.cursor = batch[-1][0]
        schedules.forget_slots(tx.connection, record.id, KEPT_SLOTS)
    record.next = next(slots.after(schedule, record.cursor), None)
    schedules.save(tx.connection, record)


def settle(
    tx: Transaction, context: Context, record: ScheduleRecord, slot: int, reason: str | None
) -> None:
    """Run a slot, or leave it out for that reason, unless somebody else has dealt with it."""
    if not schedules.take_slot(tx.connection, record.id, slot, context.clock.now()):
        return
    reason = reason or _hindrance(tx.connection, record, context.limits)
    run_id = None
    if reason is None:
        try:
            run_id = registry.trigger(
                *(tx, context, record.flow_id, record.configuration, record.parameters),
                trigger="schedule",
            )
        except Refusal as refusal:  # it has changed nothing
            reason = UNFIT + refusal.message
    schedules.settle_slot(tx.connection, record.id, slot, run_id, reason)


def _hindrance(connection: Connection, record: ScheduleRecord, limits: Limits) -> str | None:
    """Why a slot that is due can't be run now."""
    if record.overlap == "skip" and schedules.is_active(connection, record.flow_id):
        return ACTIVE
    # the loop has asked just before, so that the writer need not wait for an answer
    problem = unfit(schedules.schema(connection, record.flow_id), record.parameters, limits)
    return UNFIT + problem if problem else None


class Firing:
    """The loop: sleeps until the next slot, or until it is told that there may be an earlier one.

    Args:
        clock: the time.
        read: a snapshot of the store.
        write: runs a job on the writer.
        grace: how late a slot may be run although it is not to be caught up with; s.
        limits: how much a run's parameters may be.
    """

    def __init__(
        self,
        clock: Clock,
        read: Callable[[], AbstractContextManager[Connection]],
        write: Callable[..., Awaitable[None]],
        grace: float,
        limits: Limits,
    ) -> None:
        self._clock = clock
        self._read = read
        self._write = write
        self._grace = round(grace * 1000)
        self._limits = limits
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look again; on the event loop."""
        self._woken.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        outage = Outage(_log, "scheduled runs")
        while True:
            self._woken.clear()
            try:
                wait = await self.step()
                outage.is_over()
            except (Overloaded, StoreFailed) as error:
                outage.goes_on(error)
                wait = _WAIT_AFTER_FAILURE
            except Exception:
                _log.exception("the look at schedules failed")
                wait = _WAIT_AFTER_FAILURE
            await self._wait(wait)

    async def step(self) -> float:
        """Deal with what is due now; returns how many seconds from now to look again."""
        due, soonest = await asyncio.to_thread(self._look)
        if not due:
            if soonest is None:
                return _LONGEST_WAIT
            return min(_LONGEST_WAIT, max(0, soonest - self._clock.now()) / 1000)
        jobs = [self._write(fire, schedule_id, self._grace) for schedule_id in due]
        done = await asyncio.gather(*jobs, return_exceptions=True)
        failed = [result for result in done if isinstance(result, BaseException)]
        for error in failed:
            if isinstance(error, (Overloaded, StoreFailed)):
                raise error
            _log.error("a schedule can't be followed: %s", error, exc_info=error)
        return _WAIT_AFTER_FAILURE if failed else 0.0

    def _look(self) -> tuple[list[str], int | None]:
        """Schedules that are due, and the next slot of all in ms since the epoch."""
        with self._read() as connection:
            due = schedules.due(connection, self._clock.now(), _AT_ONCE)
            for schema, parameters in schedules.to_check(connection, due):
                unfit(schema, parameters, self._limits)
            return due, schedules.soonest(connection)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
