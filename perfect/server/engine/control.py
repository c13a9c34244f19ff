"""What people ask of runs that are there: to cancel one, to run one again."""

from __future__ import annotations

from typing import Any

from perfect.server.engine import endings, registry
from perfect.server.engine.context import Context
from perfect.server.engine.parameters import incomplete
from perfect.server.engine.refusals import Conflict, Unknown, shown
from perfect.server.store import Transaction, flows, runs
from perfect.server.store.records import RunRecord
from perfect.states import TERMINAL, TaskState

CANCELLED = "cancelled from the dashboard"


def cancel(tx: Transaction, context: Context, run_id: str) -> dict[str, Any]:
    """Cancel a run: at once where nobody executes it, else its client is told until the run has ended.

    A client that can't be told (it knows only the documented requests) is waited for: when it falls silent, the run
    is CANCELLED.

    Returns:
        ``{"state", "cancelling"}``: the run's state now, and whether it is still to end.

    Raises:
        Unknown: there is no such run.
        Conflict: it is over.
    """
    run = _run_of(tx, context, run_id)
    if run.state in TERMINAL:
        raise Conflict(f"the run is already {run.state}")
    now = context.clock.now()
    if run.session is None:
        endings.end(tx, context, run, TaskState.CANCELLED, now, reason=CANCELLED)
        return {"state": run.state, "cancelling": False}
    session = run.session
    if run.cancel is None:
        run.cancel = run.modified = now
        runs.save(tx.connection, run)
    tx.after_commit(lambda: context.interrupt(session, run_id))
    return {"state": run.state, "cancelling": True}


def retry(tx: Transaction, context: Context, run_id: str) -> dict[str, Any]:
    """Queue a new run of the same flow with the configuration and parameters of one that is over.

    Returns:
        ``{"runId", "retryOf", "resumes", "note"}``: whether it goes on from the failed tasks, and that in words.

    Raises:
        Unknown: there is no such run.
        Conflict: it is not over, or its flow is not known.
    """
    run = _run_of(tx, context, run_id)
    if run.state not in TERMINAL:
        raise Conflict(f"the run is {run.state}; only a run that is over can be retried")
    flow = None if run.flow_id is None else flows.by_id(tx.connection, run.flow_id)
    if flow is None:
        raise Conflict("the flow of this run is not known, so it can't be run again")
    lacking = incomplete(run.parameters)
    if lacking is not None:
        raise Conflict(f"the run can't be asked for again: {lacking}; trigger its flow anew")
    resumes = bool(flow.resumes) and run.state != TaskState.COMPLETED
    if resumes:
        note = "from the tasks that did not succeed on, with the results that its client has kept"
    elif flow.resumes:
        note = "as a whole: the run had succeeded, so no results were kept"
    else:
        note = "as a whole: its flow keeps no results from run to run"
    again = registry.new_run(
        tx,
        context,
        flow,
        session=None,
        trigger="request",
        configuration=run.configuration,
        parameters=run.parameters,
        retry_of=run.id,
    )
    again.reason = f"runs again {note}"
    runs.save(tx.connection, again)
    registry.ask_for(tx, context, again, flow.id)
    return {"runId": again.id, "retryOf": run.id, "resumes": resumes, "note": again.reason}


def _run_of(tx: Transaction, context: Context, run_id: str) -> RunRecord:
    run = context.book.get(tx.connection, run_id)
    if run is None:
        raise Unknown(f"there is no run {shown(run_id)}")
    return run
