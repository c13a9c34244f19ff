"""What webhooks were told."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from perfect.server.engine import alerts
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend

router = APIRouter(default_response_class=Json)

_NOTIFICATION = s.obj(
    {
        "id": s.INTEGER,
        "runId": s.TEXT,
        "flowName": s.TEXT,
        "webhook": s.TEXT,
        "event": s.TEXT,
        "state": s.TEXT,
        "attempts": s.INTEGER,
        "error": s.nullable(s.TEXT),
        "createdAt": s.TIME,
        "finishedAt": s.TIME,
        "nextAttemptAt": s.TIME,
    }
)


@router.get(
    "/api/notifications",
    tags=["tools"],
    summary="The newest notifications: delivered, waiting and given up",
    responses=s.answers(s.obj({"notifications": s.array(_NOTIFICATION)})),
)
def notifications(backend: TheBackend, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> Json:
    with backend.read() as connection:
        return Json({"notifications": alerts.listed(connection, limit)})
