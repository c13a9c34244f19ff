"""Execution requests: triggering a flow, waiting for work, claiming it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from perfect.server.engine import polling, registry, values
from perfect.server.engine.definitions import configuration
from perfect.server.engine.refusals import Demanding
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import (
    TheBackend,
    TheBody,
    TheCaller,
    TheSpeaker,
    checked_parameters,
    gone,
    may_change,
)

router = APIRouter(default_response_class=Json)

_REQUEST = s.nullable(
    {
        "anyOf": [
            s.obj(
                {
                    "run_id": s.TEXT,
                    "flow_name": s.TEXT,
                    "configuration": s.TEXT,
                    "parameters": s.nullable(s.OBJECT),
                },
                lease=s.TEXT,
                retry_of=s.nullable(s.TEXT),
            ),
            s.obj({"cancel": s.TEXT}),
        ]
    }
)


@router.post(
    "/api/engine/trigger/{flow_id}",
    tags=["tools"],
    summary="Queue a run, to be executed by a client that has the flow",
    responses=s.answers(s.success(runId=s.TEXT), 404),
    openapi_extra=s.accepts(
        s.obj({}, configuration=s.TEXT, parameters=s.nullable(s.OBJECT)), required=False
    ),
)
async def trigger(flow_id: str, body: TheBody, backend: TheBackend, caller: TheCaller) -> Json:
    limits = backend.settings.limits
    chosen = configuration(body.get("configuration"), limits)
    given = body.get("parameters")
    if given is None:
        with suppress(Demanding):
            run_id = await backend.act(
                caller, "triggered", None, registry.trigger_plainly, flow_id, chosen
            )
            return Json({"success": True, "runId": run_id})
    parameters = await checked_parameters(backend, flow_id, given)
    run_id = await backend.act(
        caller, "triggered", None, registry.trigger, flow_id, chosen, parameters
    )
    return Json({"success": True, "runId": run_id})


@router.get(
    "/api/execution-requests",
    tags=["client"],
    summary="Wait for an execution request; null when there was none",
    responses=s.answers(_REQUEST),
    dependencies=[Depends(may_change)],
)
async def poll(
    request: Request,
    backend: TheBackend,
    speaker: TheSpeaker,
    slots: Annotated[
        int | None,
        Query(ge=0, le=100_000, description="free places; a poller that says so must claim"),
    ] = None,
) -> Json:
    await backend.alive(speaker, monitored=True)
    with backend.polls.take(speaker.session), backend.clients.polling(speaker, slots):
        return Json(await backend.desk.poll(speaker, slots, partial(gone, request)))


@router.post(
    "/api/execution-requests/{run_id}/claim",
    tags=["native"],
    summary="Take over the execution of a run; start only on 200",
    responses=s.answers(s.success(), 404, 409),
    openapi_extra=s.accepts(s.obj({"lease": s.TEXT})),
)
async def claim(run_id: str, body: TheBody, backend: TheBackend, speaker: TheSpeaker) -> Json:
    lease = values.name("lease", body.get("lease"), backend.settings.limits.name)
    await backend.alive(speaker, monitored=True)
    await backend.write(polling.claim, speaker, run_id, lease)
    return Json({"success": True})
