"""What a client of the documented protocol reports about a run."""

from __future__ import annotations

from fastapi import APIRouter

from perfect.server.engine import classic, registry
from perfect.server.engine.definitions import configuration
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend, TheBody, TheSpeaker

router = APIRouter(default_response_class=Json)

_RESULT = s.obj({}, passed=s.TRUTH, note=s.TEXT, table=s.array(s.OBJECT))


@router.post(
    "/api/engine/run/{flow_id}",
    tags=["client"],
    summary="Begin a run that the client executes itself",
    responses=s.answers(s.success(runId=s.TEXT), 404),
    openapi_extra=s.accepts(s.obj({}, configuration=s.TEXT), required=False),
)
async def start(flow_id: str, body: TheBody, backend: TheBackend, speaker: TheSpeaker) -> Json:
    chosen = configuration(body.get("configuration"), backend.settings.limits)
    await backend.alive(speaker)
    run_id = await backend.write(registry.start_by_client, speaker, flow_id, chosen)
    return Json({"success": True, "runId": run_id})


@router.post(
    "/api/runs/{run_id}/tasks/{index}/state",
    tags=["client"],
    summary="The state of a task",
    responses=s.answers(s.success(), 404, 409, 413),
    openapi_extra=s.accepts(
        s.obj(
            {"state": s.TEXT},
            progress={"type": "number", "minimum": 0, "maximum": 100},
            durationMs=s.INTEGER,
            result=_RESULT,
            taskName=s.TEXT,
            estimatedTime=s.INTEGER,
            crucialPass=s.TRUTH,
        )
    ),
)
async def task_state(
    run_id: str, index: int, body: TheBody, backend: TheBackend, speaker: TheSpeaker
) -> Json:
    await backend.alive(speaker)
    await backend.write(classic.update_task, speaker, run_id, index, body)
    return Json({"success": True})


@router.post(
    "/api/runs/{run_id}/complete",
    tags=["client"],
    summary="The run is over",
    responses=s.answers(s.success(), 404, 409),
    openapi_extra=s.accepts(s.obj({"taskCount": s.INTEGER})),
)
async def complete(run_id: str, body: TheBody, backend: TheBackend, speaker: TheSpeaker) -> Json:
    await backend.alive(speaker)
    await backend.write(classic.complete, speaker, run_id, body.get("taskCount"))
    return Json({"success": True})


@router.post(
    "/api/flows/{run_id}/logs",
    tags=["client"],
    summary="Append to the log of a run",
    responses=s.answers(s.success(), 404, 409, 413),
    openapi_extra=s.accepts(s.obj({"log": s.TEXT})),
)
@router.post(
    "/api/engine/runs/{run_id}/logs",
    tags=["tools"],
    summary="The same as POST /api/flows/{run_id}/logs",
    responses=s.answers(s.success(), 404, 409, 413),
    openapi_extra=s.accepts(s.obj({"log": s.TEXT})),
)
async def log(run_id: str, body: TheBody, backend: TheBackend, speaker: TheSpeaker) -> Json:
    await backend.alive(speaker)
    await backend.write(classic.add_log, speaker, run_id, body.get("log"))
    return Json({"success": True})
