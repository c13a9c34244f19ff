"""The schedules of flows."""

from __future__ import annotations

from fastapi import APIRouter

from perfect.server.engine import schedules, values
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend, TheBody, TheCaller

router = APIRouter(default_response_class=Json)

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
    summary="Every schedule, by flow: when its next runs are due, and what became of its last slots",
    description=f"The next {schedules.SHOWN_NEXT} times, none while it is paused, and the last "
    f"{schedules.SHOWN_SLOTS} slots, newest first: each with its run, or the reason why it was left out.",
    responses=s.answers(s.success(schedules=s.array(_SCHEDULE))),
)
def listed(backend: TheBackend) -> Json:
    with backend.read() as connection:
        return Json(
            {"success": True, "schedules": schedules.listed(connection, backend.clock.now())}
        )


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
