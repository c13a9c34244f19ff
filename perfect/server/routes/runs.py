"""Runs as people and tools look at them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from perfect.server.engine import deletion, values, views
from perfect.server.engine.refusals import Invalid, Unknown, shown
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend, TheCaller
from perfect.server.store import flows, lists, runs
from perfect.server.store.records import RunRecord

router = APIRouter(default_response_class=Json)

# what one run shows of itself at once; the rest is paged
RUN_LINES = 1_000
RUN_TASKS = 20_000
_LIST_LINES = 100
_LIST_TASKS = 1_000

_CURSOR = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")

Limit = Annotated[int, Query(ge=1, le=1_000)]


@router.get(
    "/api/engine/runs",
    tags=["tools"],
    summary="The newest runs with their tasks and the end of their logs",
    description=f"Of each at most the first {_LIST_TASKS} tasks and the last {_LIST_LINES} lines, after a "
    "marker that says how many came before. GET /api/runs/{run_id} shows more, and the attempts of tasks.",
    responses=s.answers(s.array(s.RUN)),
)
def newest(backend: TheBackend, limit: Limit = 100) -> Json:
    with backend.read() as connection:
        records = lists.page(connection, lists.Filter(), None, limit)
        return Json(
            [
                views.whole(
                    connection,
                    record,
                    backend.clock.now(),
                    backend.settings.base_path,
                    log_lines=_LIST_LINES,
                    task_limit=_LIST_TASKS,
                    with_attempts=False,
                )
                for record in records
            ]
        )


@router.get(
    "/api/runs",
    tags=["native"],
    summary="Runs that match, newest first, without tasks and logs",
    responses=s.answers(s.obj({"runs": s.array(s.SUMMARY), "next": s.nullable(s.TEXT)})),
)
def matching(
    backend: TheBackend,
    state: Annotated[str | None, Query(description="states, separated by commas")] = None,
    flow: Annotated[str | None, Query(description="name or id of a flow")] = None,
    client: str | None = None,
    tag: Annotated[str | None, Query(description="name, or name:value")] = None,
    q: Annotated[str | None, Query(description="part of a flow's name, or start of an id")] = None,
    since: Annotated[str | None, Query(alias="from", description="ISO 8601")] = None,
    until: Annotated[str | None, Query(alias="to", description="ISO 8601")] = None,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    limit: Limit = 50,
) -> Json:
    with backend.read() as connection:
        wanted = lists.Filter(
            states=(
                None
                if not state
                else [values.state(part.strip()).value for part in state.split(",")]
            ),
            flows=None if not flow else flows.ids_named(connection, flow),
            client=client,
            tag=None if not tag else _tag(tag),
            text=q or None,
            text_flows=flows.ids_matching(connection, q) if q else (),
            since=_moment("from", since),
            until=_moment("to", until),
        )
        records = lists.page(connection, wanted, _cursor(cursor), limit)
        listed = views.summaries(
            connection,
            records,
            backend.clock.now(),
            backend.settings.base_path,
            backend.reached.of_runs,
        )
    more = len(records) == limit
    return Json({"runs": listed, "next": f"{records[-1].at}-{records[-1].key}" if more else None})


@router.get(
    "/api/runs/{run_id}",
    tags=["native"],
    summary="A run with its tasks and the end of its log",
    description=f"At most the first {RUN_TASKS} tasks (taskCount says how many there are) with as many of their "
    f"earlier attempts, and the last {RUN_LINES} lines, after a marker that says how many came before. "
    "GET /api/runs/{run_id}/tasks and GET /api/runs/{run_id}/logs have them all.",
    responses=s.answers(s.RUN, 404),
)
def one(
    run_id: str,
    backend: TheBackend,
    tasks: Annotated[
        int, Query(ge=0, le=RUN_TASKS, description="at most so many tasks")
    ] = RUN_TASKS,
    lines: Annotated[
        int, Query(ge=0, le=RUN_LINES, description="at most so many lines")
    ] = RUN_LINES,
) -> Json:
    with backend.read() as connection:
        return Json(
            views.whole(
                connection,
                run_of_id(connection, run_id),
                backend.clock.now(),
                backend.settings.base_path,
                log_lines=lines,
                task_limit=tasks,
            )
        )


@router.delete(
    "/api/runs/{run_id}",
    tags=["tools"],
    summary="Remove a run that is over, with everything that belongs to it",
    responses=s.answers(s.success(), 404, 409),
)
async def delete(run_id: str, backend: TheBackend, caller: TheCaller) -> Json:
    await backend.write(deletion.delete_run, run_id, caller)
    return Json({"success": True})


def run_of_id(connection: Connection, run_id: str) -> RunRecord:
    """The run of that id.

    Raises:
        Unknown: there is none.
    """
    record = runs.by_id(connection, run_id)
    if record is None:
        raise Unknown(f"there is no run {shown(run_id)}")
    return record


def _tag(text: str) -> tuple[str, str | None]:
    name, colon, value = text.partition(":")
    return name, value if colon else None


def _moment(field: str, text: str | None) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Invalid(f"{field}={shown(text)}: is not a time in ISO 8601") from None


def _cursor(text: str | None) -> tuple[int, int] | None:
    if not text:
        return None
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise Invalid(f"cursor={shown(text)}: is not one of this backend's")
    return int(found[1]), int(found[2])
