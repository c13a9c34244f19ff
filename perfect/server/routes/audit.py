"""What was done, by whom."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query

from perfect.server.engine.clock import iso
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend, may_change
from perfect.server.store import audit

router = APIRouter(default_response_class=Json)

_ENTRY = s.obj(
    {
        "id": s.INTEGER,
        "time": s.TIME,
        "action": s.TEXT,
        "runId": s.nullable(s.TEXT),
        "session": s.nullable(s.TEXT),
        "by": s.nullable(
            s.obj({"token": s.TEXT, "address": s.TEXT, "session": s.nullable(s.TEXT)})
        ),
        "detail": s.OBJECT,
    }
)


@router.get(
    "/api/audit",
    tags=["tools"],
    summary="What was done and by whom, newest first",
    description="by is who asked for it: the kind of token (full, read; open where none is needed; none for one who "
    "was refused), the address, and the session of the page. It is null for what the backend concluded by itself.",
    responses=s.answers(
        s.obj({"entries": s.array(_ENTRY), "next": s.nullable(s.INTEGER)}),
    ),
    dependencies=[Depends(may_change)],
)
def entries(
    backend: TheBackend,
    cursor: Annotated[
        int | None, Query(ge=1, le=2**53, description="next of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Json:
    with backend.read() as connection:
        rows = audit.page(connection, cursor, limit)
    return Json(
        {
            "entries": [_entry(row) for row in rows],
            "next": rows[-1].key if len(rows) == limit else None,
        }
    )


def _entry(row: Any) -> dict[str, Any]:
    by = None
    if row.kind is not None:
        by = {"token": row.kind, "address": row.peer, "session": row.login}
    return {
        "id": row.key,
        "time": iso(row.at),
        "action": row.action,
        "runId": row.run_id,
        "session": row.session,
        "by": by,
        "detail": orjson.loads(row.detail),
    }
