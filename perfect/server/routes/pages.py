"""The small pages that stand in for the dashboard: flows, runs, one run."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from perfect.server.engine import registry, views
from perfect.server.engine.definitions import configuration
from perfect.server.pages import render, style
from perfect.server.routes import body
from perfect.server.routes.deps import TheBackend, TheCaller, checked_parameters
from perfect.server.routes.runs import run_of_id
from perfect.server.store import flows, lists

router = APIRouter(include_in_schema=False)

_RUNS = 50
_LINES = 500
_TASKS = 1_000


@router.get("/")
def index(backend: TheBackend) -> HTMLResponse:
    base = backend.settings.base_path
    with backend.read() as connection:
        connected = backend.desk.presence.all()
        library = views.library(connection, flows.listed(connection), connected)
        newest = lists.page(connection, lists.Filter(), None, _RUNS)
        shown = views.summaries(connection, newest, backend.clock.now(), base)
    return render(
        "index.html", base=base, flows=library, runs=shown, most=_RUNS, doors=bool(backend.doors)
    )


@router.get("/runs/{run_id}")
def run(run_id: str, backend: TheBackend) -> HTMLResponse:
    base = backend.settings.base_path
    with backend.read() as connection:
        shown = views.whole(
            connection,
            run_of_id(connection, run_id),
            backend.clock.now(),
            base,
            log_lines=_LINES,
            task_limit=_TASKS,
        )
    return render("run.html", base=base, run=shown)


@router.post("/flows/{flow_id}/run")
async def trigger(
    flow_id: str, request: Request, backend: TheBackend, caller: TheCaller
) -> Response:
    settings = backend.settings
    form = await body.read_form(request, settings)
    chosen = configuration(form.get("configuration"), settings.limits)
    given = body.json_of("parameters", form.get("parameters"), settings)
    parameters = await checked_parameters(backend, flow_id, given)
    run_id = await backend.act(
        caller, "triggered", None, registry.trigger, flow_id, chosen, parameters
    )
    return RedirectResponse(f"{settings.base_path}/runs/{run_id}", status_code=303)


@router.get("/style.css")
def style_sheet() -> Response:
    return Response(style(), media_type="text/css", headers={"Cache-Control": "max-age=3600"})
