"""The library of flows."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter

from perfect.server.engine import registry, views
from perfect.server.engine.context import Context
from perfect.server.engine.definitions import FlowDefinition
from perfect.server.engine.refusals import Invalid, TooLarge, shown
from perfect.server.engine.speaker import Speaker
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend, TheBody, TheSpeaker
from perfect.server.settings import Limits
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


@router.post(
    "/api/flows/batch",
    tags=["client"],
    summary="Register flows, or bring their registrations up to date",
    description="Up to `limits.flows` of the handshake. One that is wrong does not hold up the others; `index` counts "
    "from 0.",
    responses=s.answers(
        s.success(rejected=s.array(s.obj({"index": s.INTEGER, "error": s.TEXT}))), 413
    ),
    openapi_extra=s.accepts(s.obj({"flows": s.array(s.REGISTRATION)})),
)
async def register_many(body: TheBody, backend: TheBackend, speaker: TheSpeaker) -> Json:
    limits = backend.settings.limits
    given = body.get("flows")
    if not isinstance(given, list):
        raise Invalid(f"flows={shown(given)}: is not a list")
    if len(given) > limits.flows:
        raise TooLarge(f"flows: there are {len(given)}, more than {limits.flows}")
    taken, rejected = await asyncio.to_thread(_parsed, given, limits)
    await backend.alive(speaker)
    if taken:
        await backend.write(_register_many, speaker, taken)
    return Json({"success": True, "rejected": rejected})


def _parsed(given: list[Any], limits: Limits) -> tuple[list[FlowDefinition], list[dict[str, Any]]]:
    """Registrations, checked: those that are right, and what is wrong with the others."""
    taken, rejected = [], []
    for index, one in enumerate(given):
        try:
            definition = FlowDefinition.parse(one, limits)
            registry.check_schedule(definition, limits)
            taken.append(definition)
        except Invalid as invalid:
            rejected.append({"index": index, "error": str(invalid)})
    return taken, rejected


def _register_many(
    tx: Transaction, context: Context, speaker: Speaker, definitions: list[FlowDefinition]
) -> None:
    for definition in definitions:
        flow = registry.register(tx, context, speaker, definition)
        if definition.auto_trigger is not None:
            registry.trigger(tx, context, flow.id, definition.auto_trigger)


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
        return Json(views.library(connection, flows.listed(connection), connected))
