"""The schedules of flows."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query

from perfect.server.engine import schedules, values
from perfect.server.engine.refusals import Invalid, Unknown, shown
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend, TheBody, TheCaller
from perfect.server.store.schedules import Filter

router = APIRouter(default_response_class=Json)

Limit = Annotated[int, Query(ge=1, le=1_000)]

_SLOT = s.obj(
    {
        "slot": s.TIME,
        "runId": s.nullable(s.TEXT),
        "state": s.nullable(s.TEXT),
        "reason": s.nullable(s.TEXT),
        "at": s.TIME,
    }
)
_SCHEDULE = s.obj(
    {
        "id": s.TEXT,
        "flowId": s.TEXT,
        "flowName": s.TEXT,
        "clientId": s.TEXT,
        "expression": s.TEXT,
        "cron": s.nullable(s.TEXT),
        "everySeconds": s.nullable(s.INTEGER),
        "timezone": s.TEXT,
        "catchup": {"enum": ["skip", "latest", "all"]},
        "overlap": {"enum": ["allow", "skip"]},
        "configuration": s.TEXT,
        "parameters": s.nullable(s.OBJECT),
        "paused": s.TRUTH,
        "createdAt": s.TIME,
        "updatedAt": s.TIME,
        "next": s.array(s.TIME),
        "slots": s.array(_SLOT),
    }
)


@router.get(
    "/api/schedules",
    tags=["native"],
    summary="Schedules, by flow: when their next runs are due, and what became of their last slots",
    description=f"The next {schedules.SHOWN_NEXT} times, none while it is paused, and the last "
    f"{schedules.SHOWN_SLOTS} slots, newest first: each with its run, or the reason why it was left out.",
    responses=s.answers(s.success(schedules=s.array(_SCHEDULE), next=s.nullable(s.TEXT))),
)
def listed(
    backend: TheBackend,
    flow: Annotated[str | None, Query(description="name or id of a flow")] = None,
    client: str | None = None,
    paused: Annotated[bool | None, Query(description="paused ones, or the others")] = None,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    limit: Limit = 100,
) -> Json:
    wanted = Filter(flow=flow or None, client=client, paused=paused)
    after = _place(cursor)
    with backend.read() as connection:
        found = schedules.listed(connection, backend.clock.now(), wanted, after, limit)
    more = len(found) == limit
    return Json({"success": True, "schedules": found, "next": _cursor(found[-1]) if more else None})


@router.get(
    "/api/schedules/{schedule_id}",
    tags=["native"],
    summary="A schedule",
    responses=s.answers(s.success(schedule=_SCHEDULE), 404),
)
def one(schedule_id: str, backend: TheBackend) -> Json:
    with backend.read() as connection:
        found = schedules.one(connection, schedule_id, backend.clock.now())
    if found is None:
        raise Unknown(f"there is no schedule {shown(schedule_id)}")
    return Json({"success": True, "schedule": found})


@router.get(
    "/api/schedules/{schedule_id}/slots",
    tags=["native"],
    summary="What became of the slots of a schedule, newest first",
    description=f"Each with its run, or the reason why it was left out; neither, where the run was deleted. The "
    f"newest {schedules.KEPT_SLOTS} of a schedule are kept.",
    responses=s.answers(s.success(slots=s.array(_SLOT), next=s.nullable(s.INTEGER)), 404),
)
def slots(
    schedule_id: str,
    backend: TheBackend,
    fired: Annotated[bool | None, Query(description="those run, or those left out")] = None,
    cursor: Annotated[
        int | None, Query(ge=0, le=2**53, description="`next` of the page before")
    ] = None,
    limit: Limit = 100,
) -> Json:
    with backend.read() as connection:
        if not schedules.exists(connection, schedule_id):
            raise Unknown(f"there is no schedule {shown(schedule_id)}")
        found, following = schedules.page_of_slots(connection, schedule_id, cursor, limit, fired)
    return Json({"success": True, "slots": found, "next": following})


@router.patch(
    "/api/schedules/{schedule_id}",
    tags=["tools"],
    summary="Pause a schedule, or let it go on; slots that come while it is paused are never run",
    responses=s.answers(s.success(schedule=_SCHEDULE), 404),
    openapi_extra=s.accepts(s.obj({"paused": s.TRUTH})),
)
async def change(schedule_id: str, body: TheBody, backend: TheBackend, caller: TheCaller) -> Json:
    paused = values.truth("paused", body.get("paused"))
    changed = await backend.write(schedules.set_paused, caller, schedule_id, paused)
    return Json({"success": True, "schedule": changed})


def _cursor(last: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([last["flowName"], last["clientId"]])).decode()


def _place(cursor: str | None) -> tuple[str, str] | None:
    if not cursor:
        return None
    try:
        name, client = orjson.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
        if isinstance(name, str) and isinstance(client, str) and "\x00" not in name + client:
            return name, client
    except (binascii.Error, ValueError, TypeError):
        pass
    raise Invalid(f"cursor={shown(cursor)}: is not one of this backend's")
