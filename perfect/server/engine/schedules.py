"""The schedules of flows: as clients register them, and what becomes of their slots.

A schedule has a cursor: slots up to it are dealt with, run or left out with a reason. It only moves on in the
transaction that enters these slots, and starts at the time of registration, so that no earlier slot is run.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import Connection

from perfect.errors import ConfigurationError, ScheduleError
from perfect.schedules import ONE_SCHEDULE, CronSchedule, IntervalSchedule, check_interval
from perfect.server.engine import slots
from perfect.server.engine.clock import iso
from perfect.server.engine.context import Context
from perfect.server.engine.parameters import check_values, hidden
from perfect.server.engine.refusals import Invalid, Unknown, shown
from perfect.server.settings import Limits
from perfect.server.store import Transaction, audit, flows, schedules
from perfect.server.store.records import Actor, FlowRecord, ScheduleRecord

# of slots that were missed at most so many are run, or recorded
MOST_CAUGHT_UP = 1_000
MOST_LEFT_OUT = 100
KEPT_SLOTS = 2_000
SHOWN_SLOTS = 10
SHOWN_NEXT = 5

PAUSED = "the schedule was paused"
CHANGED = "the schedule was changed before this slot was run"
ACTIVE = "a run of this schedule was still active (overlap=skip)"
LATER = "missed; only the latest was run (catchup=latest)"
OLDER = f"missed; of so many only the last {MOST_CAUGHT_UP} were run, and this and earlier ones left out"
UNFIT = "it can't be run: "
EARLIER = "; earlier ones are not listed"


_OPTIONS = ("timezone", "catchup", "overlap", "configuration", "parameters")
_USUAL = Limits()
# answers of `unfit` that are kept: of the schedules of one look, and no more, for schemas may be large
_KNOWN = 64


def parse(value: Any, limits: Limits = _USUAL) -> CronSchedule | None:
    """A schedule as clients register it: cron expression, ``every n s``, or an object (see the protocol).

    Args:
        value: what was sent.
        limits: how much its parameters may be.

    Raises:
        Invalid: naming what is wrong.
    """
    if value is None:
        return None
    try:
        if isinstance(value, list):
            raise Invalid(f"schedule={shown(value)}: a flow has one schedule, {ONE_SCHEDULE}")
        if not isinstance(value, dict):
            return _parse_text(value)
        options = {name: value[name] for name in _OPTIONS if name in value}
        if ("cron" in value) == ("every_seconds" in value):
            raise Invalid(f"schedule={shown(value)}: has not either of cron and every_seconds")
        if "cron" in value:
            schedule = CronSchedule(value["cron"], **options)
        else:
            schedule = IntervalSchedule(check_interval(value["every_seconds"]), **options)
        kept = text_of(schedule)
        if problem := unfit(None, kept, limits):
            raise Invalid(f"schedule.{problem}")
        return schedule
    except ScheduleError as error:
        raise Invalid(f"schedule={shown(value)}: {error.field}: {error.reason}") from None
    except ConfigurationError as error:
        raise Invalid(f"schedule.{error}") from None


def _parse_text(text: Any, **options: Any) -> CronSchedule:
    if isinstance(text, str) and text.startswith("every "):
        seconds = text.removeprefix("every ").removesuffix(" s")
        if text.endswith(" s") and seconds.isascii() and seconds.isdigit() and len(seconds) < 10:
            return IntervalSchedule(int(seconds), **options)
    return CronSchedule(text, **options)


def text_of(schedule: CronSchedule) -> str | None:
    """The parameters of a schedule's runs as they are kept."""
    return orjson.dumps(schedule.parameters).decode() if schedule.parameters else None


@lru_cache(maxsize=_KNOWN)
def unfit(schema: str | None, parameters: str | None, limits: Limits) -> str | None:
    """Why a flow can't be run with the parameters of its schedule; None if it can.

    Blocks for as long as there is to check; known for what was asked of late.

    Args:
        schema: of the flow's parameters, JSON text or None.
        parameters: JSON text or None.
        limits: how much they may be.
    """
    if hidden(parameters):
        return "parameters: hold a secret, which is not sent"
    try:
        check_values(schema, None if parameters is None else orjson.loads(parameters), limits)
    except Invalid as error:
        return error.message
    return None


def schedule_of(record: ScheduleRecord) -> CronSchedule:
    """The schedule that a row is of.

    Raises:
        Invalid: this machine does not know its zone.
    """
    try:
        return _parse_text(
            record.expression,
            timezone=record.zone,
            catchup=record.catchup,
            overlap=record.overlap,
        )
    except ConfigurationError as error:
        raise Invalid(f"schedule.{error}") from None


def follow(
    tx: Transaction, context: Context, flow: FlowRecord, schedule: CronSchedule | None
) -> None:
    """Bring the schedule of a flow in step with its registration; its history and its pause stay.

    Args:
        tx: the transaction.
        context: the engine's.
        flow: which has been stored.
        schedule: as registered; None removes what there was.
    """
    record = schedules.of_flow(tx.connection, flow.id, lock=True)
    if schedule is None:
        if record is not None:
            schedules.delete(tx.connection, record.id)
        return
    now = context.clock.now()
    facts = (
        *(schedule.expression, schedule.timezone, schedule.catchup, schedule.overlap),
        *(schedule.configuration, text_of(schedule)),
    )
    if record is None:
        record = ScheduleRecord(
            *(str(uuid.uuid4()), flow.id, *facts),
            paused=0,
            created=now,
            updated=now,
            cursor=now,
            next=next(slots.after(schedule, now), None),
        )
        schedules.insert(tx.connection, record)
    else:
        before = (
            *(record.expression, record.zone, record.catchup, record.overlap),
            *(record.configuration, record.parameters),
        )
        if facts == before:
            return
        if facts[:2] != before[:2]:
            _leave_out(tx, record, now, CHANGED)
            record.cursor = now
            record.next = next(slots.after(schedule, now), None)
        record.expression, record.zone, record.catchup, record.overlap = facts[:4]
        record.configuration, record.parameters = facts[4:]
        record.updated = now
        schedules.save(tx.connection, record)
    tx.after_commit(context.reschedule)


def set_paused(
    tx: Transaction, context: Context, by: Actor, schedule_id: str, paused: bool
) -> dict[str, Any]:
    """Pause a schedule or let it go on; the slots that come while it is paused are never run.

    Args:
        tx: the transaction.
        context: the engine's.
        by: who asks.
        schedule_id: which schedule.
        paused: whether it is to be paused.

    Returns:
        The schedule as it is shown.

    Raises:
        Unknown: there is no such schedule.
    """
    record = schedules.by_id(tx.connection, schedule_id, lock=True)
    if record is None:
        raise Unknown(f"there is no schedule {shown(schedule_id)}")
    now = context.clock.now()
    if bool(record.paused) != paused:
        if not paused:
            _leave_out(tx, record, now, PAUSED)
            record.cursor = now
            record.next = next(slots.after(schedule_of(record), now), None)
        record.paused = int(paused)
        record.updated = now
        schedules.save(tx.connection, record)
        tx.after_commit(context.reschedule)
    flow = flows.by_id(tx.connection, record.flow_id)
    assert flow is not None
    action = "paused" if paused else "resumed"
    audit.note(tx.connection, now, None, None, action, by, schedule=record.id, flow=flow.name)
    return _shown(tx.connection, record, flow.name, flow.client, now)


def _leave_out(tx: Transaction, record: ScheduleRecord, now: int, reason: str) -> None:
    """Record the slots that have come and were not dealt with yet as left out."""
    missed = slots.newest(schedule_of(record), record.cursor, now, MOST_LEFT_OUT)
    for slot in missed:
        if schedules.take_slot(tx.connection, record.id, slot, now):
            schedules.settle_slot(tx.connection, record.id, slot, None, reason)


def judge(
    schedule: CronSchedule, due: Sequence[int], now: int, grace: int, *, paused: bool, more: bool
) -> list[tuple[int, str | None]]:
    """Which of the slots that have come are to be run: each with None, or with why it is left out.

    The last one is on time if it is not later than ``grace``; those before it were missed: the next slot has come.

    Args:
        schedule: whose.
        due: the slots, in order; of those of ``catchup="all"`` the first is left out if there are ``more``.
        now: ms since the epoch.
        grace: ms.
        paused: whether it is paused.
        more: there are still earlier ones, too many to list.
    """
    judged: list[tuple[int, str | None]] = []
    for place, slot in enumerate(due):
        last, first = place == len(due) - 1, place == 0
        reason: str | None = None
        if paused:
            reason = PAUSED
        elif schedule.catchup == "all":
            reason = OLDER if first and more else None
        elif last and (schedule.catchup == "latest" or now - slot <= grace):
            pass
        elif schedule.catchup == "latest":
            reason = LATER
        else:
            reason = f"missed; noticed {(now - slot) / 1000:.0f} s late (catchup=skip)"
        if reason is not None and reason is not OLDER and first and more:
            reason += EARLIER
        judged.append((slot, reason))
    return judged


def next_of(connection: Connection, flow_id: str) -> str | None:
    """When the next run of a flow is due, as it is written on the wire; None without schedule, or paused."""
    record = schedules.of_flow(connection, flow_id)
    return None if record is None or record.paused else iso(record.next)


def listed(
    connection: Connection,
    now: int,
    wanted: schedules.Filter = schedules.Filter(),
    after: tuple[str, str] | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Schedules as they are shown, by the names of their flows and clients; ``now`` in ms since the epoch."""
    return [
        _shown(connection, record, flow, client, now)
        for record, flow, client in schedules.listed(connection, wanted, after, limit)
    ]


def exists(connection: Connection, schedule_id: str) -> bool:
    """Whether there is such a schedule."""
    return schedules.by_id(connection, schedule_id) is not None


def page_of_slots(
    connection: Connection,
    schedule_id: str,
    before: int | None = None,
    limit: int = SHOWN_SLOTS,
    fired: bool | None = None,
) -> tuple[list[dict[str, Any]], int | None]:
    """The last slots of a schedule as they are shown, newest first, and ``before`` of the next page."""
    found = schedules.slots(connection, schedule_id, limit, before=before, fired=fired)
    listed = [
        {
            "slot": iso(row.slot),
            "runId": row.run_id,
            "state": row.state,
            "reason": row.reason,
            "at": iso(row.at),
        }
        for row in found
    ]
    return listed, found[-1].slot if len(found) == limit else None


def one(connection: Connection, schedule_id: str, now: int) -> dict[str, Any] | None:
    """A schedule as it is shown; None when there is none of that id (any more)."""
    record = schedules.by_id(connection, schedule_id)
    flow = None if record is None else flows.by_id(connection, record.flow_id)
    if record is None or flow is None:
        return None
    return _shown(connection, record, flow.name, flow.client, now)


def _shown(
    connection: Connection, record: ScheduleRecord, flow: str, client: str, now: int
) -> dict[str, Any]:
    seconds: int | None = None
    to_come: list[int] = []
    with suppress(Invalid):  # its zone is not known here, and the log says so
        schedule = schedule_of(record)
        seconds = schedule.seconds if isinstance(schedule, IntervalSchedule) else None
        if not record.paused:
            to_come = slots.following(schedule, max(now, record.cursor), SHOWN_NEXT)
    return {
        "id": record.id,
        "flowId": record.flow_id,
        "flowName": flow,
        "clientId": client,
        "expression": record.expression,
        "cron": record.expression if seconds is None else None,
        "everySeconds": seconds,
        "timezone": record.zone,
        "catchup": record.catchup,
        "overlap": record.overlap,
        "configuration": record.configuration,
        "parameters": None if record.parameters is None else orjson.loads(record.parameters),
        "paused": bool(record.paused),
        "createdAt": iso(record.created),
        "updatedAt": iso(record.updated),
        "next": [iso(slot) for slot in to_come],
        "slots": page_of_slots(connection, record.id)[0],
    }
