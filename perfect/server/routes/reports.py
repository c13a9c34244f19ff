"""Reports of finished runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from perfect.server import reports
from perfect.server.engine import views
from perfect.server.engine.backend import Backend
from perfect.server.engine.refusals import Unknown
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend
from perfect.server.routes.runs import run_of_id
from perfect.server.store import flows, lists
from perfect.server.store.records import RunRecord
from perfect.states import TERMINAL

router = APIRouter(default_response_class=Json)

# a report brings its style along, so that it can be saved and sent; nothing else may come from anywhere
_POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
}


@router.get(
    "/api/reports/run/{run_id}",
    tags=["tools"],
    summary="The report of a run",
    responses=s.answers(s.success(report=s.REPORT), 404),
)
def of_run(run_id: str, backend: TheBackend) -> Json:
    with backend.read() as connection:
        run = run_of_id(connection, run_id)
        _check_finished(run)
        size = reports.size(connection, run, backend.settings, backend.clock.now())
    return Json({"success": True, "report": views.report(run, size, backend.settings.base_path)})


@router.get(
    "/api/reports/flow/{flow_name:path}",
    tags=["tools"],
    summary="The reports of the newest runs of the flow of that name or id",
    responses=s.answers(s.success(flowName=s.TEXT, reports=s.array(s.REPORT))),
)
def of_flow(
    flow_name: str, backend: TheBackend, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Json:
    settings, now = backend.settings, backend.clock.now()
    with backend.read() as connection:
        ids = flows.ids_named(connection, flow_name)
        found = [
            views.report(run, reports.size(connection, run, settings, now), settings.base_path)
            for run in lists.finished(connection, ids, -1, limit)
        ]
    return Json({"success": True, "flowName": flow_name, "reports": found})


@router.get("/reports/{run_id}.html", include_in_schema=False)
def page(run_id: str, backend: TheBackend) -> StreamingResponse:
    with backend.read() as connection:
        _check_finished(run_of_id(connection, run_id))
    return StreamingResponse(_pieces(backend, run_id), media_type="text/html", headers=_POLICY)


def _pieces(backend: Backend, run_id: str) -> Iterator[bytes]:
    # the connection is opened here, so that it is closed when the reader goes away
    with backend.read() as connection:
        run = run_of_id(connection, run_id)
        yield from reports.pieces(connection, run, backend.settings, backend.clock.now())


def _check_finished(run: RunRecord) -> None:
    if run.state not in TERMINAL:
        raise Unknown(f"the run is {run.state}; its report is made when it is over")
