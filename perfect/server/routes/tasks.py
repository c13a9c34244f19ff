"""The tasks of one run as people and tools look at them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from perfect.server.engine import taskviews, values
from perfect.server.engine.refusals import Unknown
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend
from perfect.server.routes.runs import run_of_id
from perfect.server.store import tasklists

router = APIRouter(default_response_class=Json)

# an index that no task of a run can have
_BEYOND = 2**31 - 1


@router.get(
    "/api/runs/{run_id}/tasks",
    tags=["native"],
    summary="The tasks of a run, page by page",
    description="In order of their calls, without results, errors and attempts. `total` is how many the run has, and "
    "`states` how many of them are in which state, whatever is asked for.",
    responses=s.answers(
        s.obj(
            {
                "tasks": s.array(s.BRIEF_TASK),
                "next": s.nullable(s.INTEGER),
                "total": s.INTEGER,
                "states": {"type": "object", "additionalProperties": s.INTEGER},
            }
        ),
        404,
    ),
)
def matching(
    run_id: str,
    backend: TheBackend,
    after: Annotated[
        int, Query(ge=-1, le=_BEYOND, description="`next` of the page before: its last index")
    ] = -1,
    state: Annotated[str | None, Query(description="states, separated by commas")] = None,
    q: Annotated[str | None, Query(description="part of a task's name")] = None,
    limit: Annotated[int, Query(ge=1, le=20_000)] = 1_000,
) -> Json:
    states = [values.state(part.strip()).value for part in state.split(",")] if state else None
    with backend.read() as connection:
        return Json(
            taskviews.page(
                connection,
                run_of_id(connection, run_id),
                tasklists.Filter(states, q or None),
                after,
                limit,
                backend.clock.now(),
            )
        )


@router.get(
    "/api/runs/{run_id}/tasks/{index}",
    tags=["native"],
    summary="A task with its result, error and earlier attempts",
    responses=s.answers(s.WHOLE_TASK, 404),
)
def one(run_id: str, index: int, backend: TheBackend) -> Json:
    with backend.read() as connection:
        run = run_of_id(connection, run_id)
        # beyond what an index may be, databases need not agree on what a number is
        found = (
            taskviews.whole(connection, run, index, backend.clock.now())
            if 0 <= index <= _BEYOND
            else None
        )
    if found is None:
        raise Unknown(f"the run has no task {index}")
    return Json(found)
