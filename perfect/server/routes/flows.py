"""The library of flows."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter

from perfect.server.engine import registry, views
from perfect.server.engine.context import Context
from perfect.server.engine.definitions import FlowDefinition
from perfect.server.engine.speaker import Speaker
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend, TheBody, TheSpeaker
from perfect.server.store import Transaction, flows

router = APIRouter(default_response_class=Json)


@router.post(
    "/api/flows",
    tags=["client"],
    summary="Register a flow, or bring its registration up to date",
    responses=s.answers(s.success(flow=s.FLOW), 413),
    openapi_extra=s.accepts(s.REGISTRATION),
)
@router.post(
    "/api/engine/register",
    tags=["tools"],
    summary="The same as POST /api/flows",
    responses=s.answers(s.success(flow=s.FLOW), 413),
    openapi_extra=s.accepts(s.REGISTRATION),
)
async def register(body: TheBody, backend: TheBackend, speaker: TheSpeaker) -> Json:
    definition = FlowDefinition.parse(body, backend.settings.limits)
    if definition.schedule is not None:
        await asyncio.to_thread(registry.check_schedule, definition, backend.settings.limits)
    await backend.alive(speaker)
    answer = await backend.write(_register, speaker, definition)
    return Json({"success": True, **answer})


def _register(
    tx: Transaction, context: Context, speaker: Speaker, definition: FlowDefinition
) -> dict[str, Any]:
    flow = registry.register(tx, context, speaker, definition)
    answer: dict[str, Any] = {
        "flow": views.flow(tx.connection, flow, connected=flow.id in context.present)
    }
    if definition.auto_trigger is not None:
        answer["runId"] = registry.trigger(tx, context, flow.id, definition.auto_trigger)
    return answer


@router.get(
    "/api/engine/flows",
    tags=["tools"],
    summary="Every flow of the library, by name",
    responses=s.answers(s.array(s.FLOW)),
)
def listed(backend: TheBackend) -> Json:
    with backend.read() as connection:
        connected = backend.desk.presence.all()
        return Json(
            [
                views.flow(connection, flow, connected=flow.id in connected)
                for flow in flows.listed(connection)
            ]
        )
