"""The log of a run: page by page, and as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response, StreamingResponse

from perfect.server.engine import views
from perfect.server.engine.backend import Backend
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend
from perfect.server.routes.runs import run_of_id
from perfect.server.store import logs

router = APIRouter(default_response_class=Json)

# of the text that is sent, so much is held at once, unless one line alone is longer
_PIECE = 512 * 1024
_MOST_AT_ONCE = 4_000
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

After = Annotated[int, Query(ge=0, le=2**31, description="seq of the last line seen")]


async def _filter(
    task: Annotated[int | None, Query(ge=0, le=2**31, description="index of a task")] = None,
    level: Annotated[str | None, Query(description="levels, separated by commas")] = None,
    q: Annotated[
        str | None, Query(description="text the lines contain, in any letter case")
    ] = None,
) -> logs.Filter:
    return logs.Filter(task, level.split(",") if level else None, q or None)


TheFilter = Annotated[logs.Filter, Depends(_filter)]


@router.get(
    "/api/runs/{run_id}/logs",
    tags=["native"],
    summary="The log of a run, page by page",
    responses=s.answers(
        s.obj({"logs": s.array(s.LOG_LINE), "next": s.nullable(s.INTEGER), "total": s.INTEGER}), 404
    ),
)
def page(
    run_id: str,
    backend: TheBackend,
    wanted: TheFilter,
    after: After = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> Json:
    with backend.read() as connection:
        run = run_of_id(connection, run_id)
        rows = logs.page(connection, run.key, after, limit, wanted)
    return Json(
        {
            "logs": [views.log_line(row) for row in rows],
            "next": rows[-1].seq if len(rows) == limit else None,
            "total": run.lines,
        }
    )


@router.get(
    "/api/runs/{run_id}/logs/pages",
    tags=["native"],
    summary="How many lines match, and where their pages begin",
    description="So that any page of a filtered log can be asked for: `first` has the sequence number of each "
    "page's first line, `count` says how many lines match, `total` how many lines there are. With `after` and "
    "`counted` from an earlier answer (its `total` and `count`), only what came since is counted.",
    responses=s.answers(
        s.obj({"first": s.array(s.INTEGER), "count": s.INTEGER, "total": s.INTEGER}), 404
    ),
)
def pages(
    run_id: str,
    backend: TheBackend,
    wanted: TheFilter,
    after: After = 0,
    counted: Annotated[int, Query(ge=0, le=2**31, description="lines that match so far")] = 0,
    size: Annotated[int, Query(ge=50, le=10_000, description="lines of a page")] = 100,
) -> Json:
    with backend.read() as connection:
        run = run_of_id(connection, run_id)
        first, count = logs.places(connection, run.key, after, wanted, counted, size)
    return Json({"first": first, "count": counted + count, "total": run.lines})


@router.get(
    "/api/runs/{run_id}/logs.txt",
    tags=["native"],
    summary="The log of a run as text, to be saved",
    description="Every line that is there when it is asked for, as it was written (colours too), each with a line feed.",
    response_class=Response,
    responses=s.answers(s.TEXT, 404)
    | {200: {"description": "The lines", "content": {"text/plain": {"schema": s.TEXT}}}},
)
def text(run_id: str, backend: TheBackend, wanted: TheFilter) -> StreamingResponse:
    with backend.read() as connection:
        run = run_of_id(connection, run_id)
    flow = _UNSAFE.sub("-", run.flow_name)[:80].strip("-.")
    name = f"{flow or 'run'}-{run.id[:8]}.log"
    return StreamingResponse(
        _pieces(backend, run_id, run.lines, wanted),
        media_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _pieces(backend: Backend, run_id: str, last: int, wanted: logs.Filter) -> Iterator[bytes]:
    after, step = 0, 64
    while after < last:
        # a connection for each piece: a slow reader must not hold one
        with backend.read() as connection:
            # a run that was deleted breaks the answer off, so that nobody takes the part for the whole
            rows = logs.page(connection, run_of_id(connection, run_id).key, after, step, wanted)
        piece = "".join(f"{row.text}\n" for row in rows if row.seq <= last).encode()
        if piece:
            yield piece
        if len(rows) < step:
            return
        after = rows[-1].seq
        if len(piece) > _PIECE:
            step = max(1, step * _PIECE // len(piece))
        elif len(piece) < _PIECE // 2:
            step = min(_MOST_AT_ONCE, step * 2)
