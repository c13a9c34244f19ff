"""What people do with a run: cancel it, or run it again."""

from __future__ import annotations

from fastapi import APIRouter

from perfect.server.engine import control
from perfect.server.routes import schemas as s
from perfect.server.routes.answers import Json
from perfect.server.routes.deps import TheBackend, TheCaller

router = APIRouter(default_response_class=Json)


@router.post(
    "/api/runs/{run_id}/cancel",
    tags=["tools"],
    summary="Cancel a run that is not over",
    description="One that nobody executes yet is CANCELLED at once. Else its client is told: it begins no further "
    "task, and the run is CANCELLED when what is under way has ended. Saying it again changes nothing.",
    responses=s.answers(s.success(state=s.TEXT, cancelling=s.TRUTH), 404, 409),
)
async def cancel(run_id: str, backend: TheBackend, caller: TheCaller) -> Json:
    answer = await backend.act(caller, "cancelled", run_id, control.cancel, run_id)
    return Json({"success": True, **answer})


@router.post(
    "/api/runs/{run_id}/retry",
    tags=["tools"],
    summary="Run a finished run again, with its configuration and parameters",
    description="Whether it goes on from the tasks that did not succeed is the client's to know: it does where the "
    "flow keeps its results (`resumes`), else it runs as a whole. `note` says which.",
    responses=s.answers(
        s.success(runId=s.TEXT, retryOf=s.TEXT, resumes=s.TRUTH, note=s.TEXT), 404, 409
    ),
)
async def retry(run_id: str, backend: TheBackend, caller: TheCaller) -> Json:
    answer = await backend.act(caller, "retried", run_id, control.retry, run_id)
    return Json({"success": True, **answer})
