"""The native part of the protocol: handshake, events, heartbeat, health."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter, Request

from perfect import __version__
from perfect.server.engine.access import FULL, OPEN, READ
from perfect.server.engine.ingest import ingest
from perfect.server.engine.refusals import Invalid
from perfect.server.routes import body
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import RETRY_AFTER, Json, failure
from perfect.server.routes.deps import TheBackend, TheCaller, TheSpeaker

PROTOCOL = 2

router = APIRouter(default_response_class=Json)

_EVENT = s.obj(
    {
        "seq": {"type": "integer", "minimum": 1},
        "type": {"enum": ["run.started", "task", "log", "run.ended"]},
        "run": {"type": "string", "format": "uuid"},
    },
    t=s.INTEGER,
)


@router.get(
    "/api/version",
    tags=["native"],
    summary="Handshake: what this backend is and what it takes",
    description="`access` is what whoever asks may do: `full` or `read`, by the token; `open`, where there is none.",
    responses=s.answers(
        s.obj(
            {
                "name": s.TEXT,
                "version": s.TEXT,
                "protocol": s.INTEGER,
                "limits": s.OBJECT,
                "access": {"enum": [FULL, READ, OPEN]},
            }
        )
    ),
)
async def version(backend: TheBackend, caller: TheCaller) -> Json:
    settings = backend.settings
    limits: dict[str, Any] = dataclasses.asdict(settings.limits)
    durations = {
        "heartbeat": settings.heartbeat,
        "silence": settings.silence,
        "poll": settings.poll,
    }
    return Json(
        {
            "name": "perfect",
            "version": __version__,
            "protocol": PROTOCOL,
            "limits": limits | durations,
            "access": caller.kind,
        }
    )


@router.get(
    "/api/health",
    tags=["native"],
    summary="Whether the backend can read and write",
    description="503 when it cannot; `detail` says what is wrong.",
    responses=s.answers(s.success(status=s.TEXT, checks=s.OBJECT)),
)
async def health(backend: TheBackend) -> Json:
    checks = await backend.check()
    if wrong := {name: said for name, said in checks.items() if said != "ok"}:
        first = next(f"the {name} {said}" for name, said in wrong.items())
        return failure(503, first, checks, {"Retry-After": RETRY_AFTER})
    return Json({"success": True, "status": "ok", "checks": checks})


@router.post(
    "/api/ingest",
    tags=["native"],
    summary="Events of one session, answered after they are committed",
    responses=s.answers(
        s.success(
            committed=s.INTEGER,
            rejected=s.array(s.obj({"seq": s.nullable(s.INTEGER), "error": s.TEXT})),
            cancel=s.array(s.TEXT),
        ),
        408,
        413,
        415,
    ),
    openapi_extra=s.accepts(s.obj({"events": s.array(_EVENT)})),
)
async def ingest_events(request: Request, backend: TheBackend, speaker: TheSpeaker) -> Json:
    if not speaker.native:
        raise Invalid("X-Perfect-Session is missing: events are counted per session")
    await backend.alive(speaker, monitored=True)
    receipt = await backend.write_body(
        ingest, speaker, await body.read_json(request, backend.settings)
    )
    return Json({"success": True, **dataclasses.asdict(receipt)})


@router.post(
    "/api/heartbeat",
    tags=["client"],
    summary="A sign of life; the answer names runs that are to be cancelled",
    responses=s.answers(s.success(cancel=s.array(s.TEXT))),
)
async def heartbeat(backend: TheBackend, speaker: TheSpeaker) -> Json:
    await backend.alive(speaker, monitored=True)
    return Json({"success": True, "cancel": await backend.to_cancel(speaker)})
