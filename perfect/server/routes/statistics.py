"""What was learned from durations."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Query, Request

from perfect.server.engine import trends, views
from perfect.server.engine.clock import iso
from perfect.server.engine.context import Context
from perfect.server.engine.refusals import Unknown
from perfect.server.engine.refusals import shown as quoted
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend, TheCaller
from perfect.server.store import Transaction, flows, lists, statistics, tasks

router = APIRouter(prefix="/api/statistics", tags=["tools"], default_response_class=Json)

Limit = Annotated[int, Query(ge=1, le=1_000)]

_STATS = s.obj(
    {
        "avgDurationMs": s.NUMBER,
        "stdDevDurationMs": s.NUMBER,
        "sampleCount": s.INTEGER,
        "lastUpdated": s.TIME,
    }
)
_OF_FLOW = s.obj({"flowId": s.TEXT, "flowName": s.TEXT, "clientId": s.TEXT, **_STATS["properties"]})
_OF_TASK = s.obj({**_OF_FLOW["properties"], "taskName": s.TEXT})
_ENDED = s.obj(
    {
        "runId": s.TEXT,
        "state": s.TEXT,
        "startTime": s.TIME,
        "endTime": s.TIME,
        "durationMs": s.nullable(s.INTEGER),
    }
)
_ENDED_RUN = s.obj({**_ENDED["properties"], "configuration": s.TEXT})
_ENDED_TASK = s.obj({**_ENDED["properties"], "taskIndex": s.INTEGER})
_LATELY = {
    "runs": s.INTEGER,
    **_STATS["properties"],
    "completed": s.INTEGER,
    "failed": s.INTEGER,
    "successRate": s.nullable(s.NUMBER),
    "p95DurationMs": s.nullable(s.INTEGER),
}
_FLOW_LATELY = s.obj(
    {"flowId": s.TEXT, "flowName": s.TEXT, "clientId": s.TEXT, "lastRun": s.TIME, **_LATELY}
)
_TASK_LATELY = s.obj({"taskName": s.TEXT, **_LATELY})


def _history(entry: s.Schema) -> s.Schema:
    return s.success(history=s.array(entry), stats=s.nullable(_STATS))


@router.get(
    "",
    summary="Average, standard deviation and sample count of every task and flow",
    responses=s.answers(
        s.success(taskStatistics=s.array(_OF_TASK), flowStatistics=s.array(_OF_FLOW))
    ),
)
def everything(backend: TheBackend) -> Json:
    with backend.read() as connection:
        rows = statistics.of_flows(connection)
    shown = [
        {
            "flowId": row.flow_id,
            "flowName": row.flow_name,
            "clientId": row.client,
            "taskName": row.task,
            **trends.learned([row]),
        }
        for row in rows
    ]
    return Json(
        {
            "success": True,
            "taskStatistics": [row for row in shown if row["taskName"]],
            "flowStatistics": [
                {name: value for name, value in row.items() if name != "taskName"}
                for row in shown
                if not row["taskName"]
            ],
        }
    )


@router.get(
    "/flows",
    summary="How every flow has been doing",
    description="Average, standard deviation and `sampleCount` are of all completed runs since the statistics were "
    f"cleared; `completed`, `failed`, `successRate` and `p95DurationMs`, of the newest {trends.RUNS} runs. `runs` "
    f"counts up to {trends.COUNTED}.",
    responses=s.answers(s.success(flows=s.array(_FLOW_LATELY))),
)
def of_flows(backend: TheBackend) -> Json:
    with backend.read() as connection:
        return Json({"success": True, "flows": trends.overview(connection)})


@router.get(
    "/flows/{flow:path}",
    summary="How the flow of that name or id, and its tasks, have been doing",
    description=f"With its ended runs, newest first, of the newest {trends.RUNS}; `runs` of a task are those of them "
    "in which it was.",
    responses=s.answers(
        s.success(
            **_LATELY, lastRun=s.TIME, history=s.array(_ENDED_RUN), tasks=s.array(_TASK_LATELY)
        ),
        404,
    ),
)
def of_flow(flow: str, backend: TheBackend) -> Json:
    with backend.read() as connection:
        found = trends.of_flow(connection, flow)
    if found is None:
        raise Unknown(f"there is no flow {quoted(flow)}")
    return Json({"success": True, **found})


@router.delete("", summary="Forget all of it", responses=s.answers(s.success()))
async def clear(backend: TheBackend, caller: TheCaller) -> Json:
    await backend.act(caller, "statistics cleared", None, _clear)
    return Json({"success": True})


def _clear(tx: Transaction, context: Context) -> None:
    statistics.clear(tx.connection, context.clock.now())
    # estimates learned for runs that are under way come from there, too
    context.book.forget()


@router.get(
    "/task-history/{flow:path}/{task:path}",
    summary="The newest ended tasks of that name in the flow of that name or id",
    responses=s.answers(_history(_ENDED_TASK)),
)
def task_history(
    flow: str, task: str, request: Request, backend: TheBackend, limit: Limit = 50
) -> Json:
    # the decoded path no longer tells a slash within a name from the one between the names
    names = (
        request.scope["raw_path"]
        .decode("ascii", "replace")
        .partition("/task-history/")[2]
        .split("/")
    )
    if len(names) == 2:
        flow, task = map(unquote, names)
    with backend.read() as connection:
        ids = flows.ids_named(connection, flow)
        rows = statistics.of_flows(connection, ids, task)
        since = statistics.cleared_at(connection)
        ended = tasks.history(connection, ids, task, since, limit)
    history = [
        {
            "runId": row.id,
            "taskIndex": row.idx,
            "state": row.state,
            "startTime": iso(row.started),
            "endTime": iso(row.ended),
            "durationMs": row.duration,
        }
        for row in ended
    ]
    return Json(
        {"success": True, "history": history, "stats": trends.learned(rows) if rows else None}
    )


@router.get(
    "/flow-history/{flow:path}",
    summary="The newest ended runs of the flow of that name or id",
    responses=s.answers(_history(_ENDED_RUN)),
)
def flow_history(flow: str, backend: TheBackend, limit: Limit = 50) -> Json:
    with backend.read() as connection:
        ids = flows.ids_named(connection, flow)
        rows = statistics.of_flows(connection, ids, "")
        since = statistics.cleared_at(connection)
        ended = lists.finished(connection, ids, since, limit)
    history = [views.ended_run(run) for run in ended]
    return Json(
        {"success": True, "history": history, "stats": trends.learned(rows) if rows else None}
    )
