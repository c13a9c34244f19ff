"""Queries on schedules and their slots."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import astuple, dataclass, fields
from functools import cache
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Row, Select, bindparam, func, select, update

from perfect.server.store import changes
from perfect.server.store.records import ScheduleRecord
from perfect.server.store.statements import Prepared, upsert
from perfect.server.store.tables import flow, run, schedule, schedule_slot
from perfect.states import TERMINAL, TaskState

_NAMES = [f.name for f in fields(ScheduleRecord)]
_COLUMNS = [schedule.c[name] for name in _NAMES]
_SCHEMA = select(flow.c.parameters).where(flow.c.id == bindparam("of_id"))
_ACTIVE = sorted(set(TaskState) - TERMINAL)

# What is done for every slot, made once: a thousand may come in the same second.
_CHANGING = [name for name in _NAMES if name not in ("id", "flow_id", "created")]
_SAVE = Prepared(
    update(schedule)
    .where(schedule.c.id == bindparam("of_id"))
    .values({name: bindparam(name) for name in _CHANGING}),
    [*_CHANGING, "of_id"],
)
_changing = attrgetter(*_CHANGING)
_BY_ID = select(*_COLUMNS).where(schedule.c.id == bindparam("of_id"))
_BY_FLOW = select(*_COLUMNS).where(schedule.c.flow_id == bindparam("of_id"))
_OF_SLOT = (
    schedule_slot.c.schedule == bindparam("of_schedule"),
    schedule_slot.c.slot == bindparam("of_slot"),
)
_LEAVE_OUT = update(schedule_slot).where(*_OF_SLOT).values(reason=bindparam("why"))
_SETTLE = (
    update(schedule_slot)
    .where(*_OF_SLOT)
    .values(run=select(run.c.key).where(run.c.id == bindparam("of_run")).scalar_subquery())
)
_FORGET = schedule_slot.delete().where(
    schedule_slot.c.schedule == bindparam("of_schedule"),
    schedule_slot.c.slot
    <= select(schedule_slot.c.slot)
    .where(schedule_slot.c.schedule == bindparam("of_schedule"))
    .order_by(schedule_slot.c.slot.desc())
    .offset(bindparam("kept"))
    .limit(1)
    .scalar_subquery(),
)


def by_id(connection: Connection, schedule_id: str, *, lock: bool = False) -> ScheduleRecord | None:
    """The schedule of that id; locked for the rest of the transaction if it is about to change."""
    return _one(connection, _BY_ID, schedule_id, lock)


def of_flow(connection: Connection, flow_id: str, *, lock: bool = False) -> ScheduleRecord | None:
    """The schedule of a flow; likewise."""
    return _one(connection, _BY_FLOW, flow_id, lock)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which schedules are asked for; None asks for any.

    Attributes:
        flow: of the flows of this name or id.
        client: of this client's flows.
        paused: paused ones, or those that are not.
    """

    flow: str | None = None
    client: str | None = None
    paused: bool | None = None


def listed(
    connection: Connection,
    wanted: Filter = Filter(),
    after: tuple[str, str] | None = None,
    limit: int | None = None,
) -> list[tuple[ScheduleRecord, str, str]]:
    """Schedules with the names of their flows and clients, by these.

    Args:
        connection: to read from.
        wanted: which.
        after: flow and client of the last one of the page before.
        limit: how many at most; None is all.
    """
    query = select(*_COLUMNS, flow.c.name.label("flow"), flow.c.client.label("client")).join_from(
        schedule, flow, flow.c.id == schedule.c.flow_id
    )
    if wanted.flow is not None:
        query = query.where((flow.c.name == wanted.flow) | (flow.c.id == wanted.flow))
    if wanted.client is not None:
        query = query.where(flow.c.client == wanted.client)
    if wanted.paused is not None:
        query = query.where(schedule.c.paused == int(wanted.paused))
    if after is not None:
        name, client = after
        query = query.where(
            (flow.c.name > name) | ((flow.c.name == name) & (flow.c.client > client))
        )
    query = query.order_by(flow.c.name, flow.c.client).limit(limit)
    return [
        (ScheduleRecord(*row[: len(_NAMES)]), row.flow, row.client)
        for row in connection.execute(query)
    ]


def due(connection: Connection, now: int, limit: int) -> list[str]:
    """Ids of at most ``limit`` schedules that have a slot at or before ``now``.

    Half of them are those due for longest, and half those whose slot has just come: neither has to wait for
    many of the other kind.
    """
    query = select(schedule.c.id).where(schedule.c.next <= now).limit(limit // 2)
    longest = connection.execute(query.order_by(schedule.c.next)).scalars().all()
    latest = connection.execute(query.order_by(schedule.c.next.desc())).scalars().all()
    return list(dict.fromkeys([*longest, *latest]))


def schema(connection: Connection, flow_id: str) -> str | None:
    """What the parameters of a flow must be, as JSON text."""
    found: str | None = connection.execute(_SCHEMA, {"of_id": flow_id}).scalar()
    return found


def to_check(connection: Connection, ids: Collection[str]) -> list[tuple[str | None, str | None]]:
    """What the parameters of the flows of these schedules must be, and what the schedules give; JSON text."""
    query = (
        select(flow.c.parameters, schedule.c.parameters)
        .join_from(schedule, flow, flow.c.id == schedule.c.flow_id)
        .where(schedule.c.id.in_(ids))
    )
    return [(row[0], row[1]) for row in connection.execute(query)] if ids else []


def soonest(connection: Connection) -> int | None:
    """The next slot of all; ms since the epoch."""
    found: int | None = connection.execute(select(func.min(schedule.c.next))).scalar()
    return found


def insert(connection: Connection, record: ScheduleRecord) -> None:
    """Keep a new schedule."""
    connection.execute(schedule.insert(), dict(zip(_NAMES, astuple(record), strict=True)))
    changes.other(connection, "flow", record.flow_id)
    changes.other(connection, "schedule", record.id)


def save(connection: Connection, record: ScheduleRecord) -> None:
    """Keep a schedule that changed."""
    _SAVE.run(connection, [(*_changing(record), record.id)])
    # whose next time is shown with it
    changes.other(connection, "flow", record.flow_id)
    changes.other(connection, "schedule", record.id)


def delete(connection: Connection, schedule_id: str) -> None:
    """Remove a schedule with its slots; its runs stay."""
    connection.execute(schedule_slot.delete().where(schedule_slot.c.schedule == schedule_id))
    connection.execute(schedule.delete().where(schedule.c.id == schedule_id))
    changes.other(connection, "schedule", schedule_id)


def take_slot(connection: Connection, schedule_id: str, slot: int, now: int) -> bool:
    """Enter a slot; whether nobody has before: only then it may be run."""
    values = {"schedule": schedule_id, "slot": slot, "at": now}
    return connection.execute(_take(connection.dialect), values).first() is not None


@cache
def _take(dialect: Dialect) -> Any:
    statement = upsert(dialect, schedule_slot).on_conflict_do_nothing()
    # asked for, because not every driver counts the rows of such a statement
    return statement.returning(schedule_slot.c.slot)


def settle_slot(
    connection: Connection, schedule_id: str, slot: int, run_id: str | None, reason: str | None
) -> None:
    """Note what became of a slot that was entered: its run, or why there is none."""
    of_slot = {"of_schedule": schedule_id, "of_slot": slot}
    if run_id is None:
        connection.execute(_LEAVE_OUT, {**of_slot, "why": reason})
    else:
        connection.execute(_SETTLE, {**of_slot, "of_run": run_id})


def slots(
    connection: Connection,
    schedule_id: str,
    limit: int,
    *,
    before: int | None = None,
    fired: bool | None = None,
) -> list[Row[Any]]:
    """The last slots of a schedule, newest first: slot, run_id, state, reason, at.

    The run is None for a slot that was left out, and for one whose run was deleted.

    Args:
        connection: to read from.
        schedule_id: which schedule.
        limit: how many at most.
        before: only earlier ones; ms since the epoch.
        fired: only those that were run, or those that were left out.
    """
    query = (
        select(
            schedule_slot.c.slot,
            run.c.id.label("run_id"),
            run.c.state,
            schedule_slot.c.reason,
            schedule_slot.c.at,
        )
        .select_from(schedule_slot.outerjoin(run, run.c.key == schedule_slot.c.run))
        .where(schedule_slot.c.schedule == schedule_id)
        .order_by(schedule_slot.c.slot.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(schedule_slot.c.slot < before)
    if fired is not None:
        reason = schedule_slot.c.reason
        query = query.where(reason.is_(None) if fired else reason.is_not(None))
    return list(connection.execute(query))


def forget_slots(connection: Connection, schedule_id: str, kept: int) -> None:
    """Remove all slots of a schedule but the newest ``kept``."""
    connection.execute(_FORGET, {"of_schedule": schedule_id, "kept": kept})


def is_active(connection: Connection, flow_id: str) -> bool:
    """Whether a run that a schedule of this flow asked for is waiting or running."""
    query = select(run.c.key).where(
        run.c.flow_id == flow_id, run.c.state.in_(_ACTIVE), run.c.trigger == "schedule"
    )
    return connection.execute(query.limit(1)).first() is not None


def _one(
    connection: Connection, query: Select[Any], its_id: str, lock: bool
) -> ScheduleRecord | None:
    query = query.with_for_update() if lock else query
    row = connection.execute(query, {"of_id": its_id}).first()
    return None if row is None else ScheduleRecord(*row)
