"""Removing what is no longer wanted."""

from __future__ import annotations

from perfect.server.engine.context import Context
from perfect.server.engine.refusals import Conflict, Unknown, shown
from perfect.server.store import Transaction, audit, runs
from perfect.server.store.records import Actor
from perfect.states import TERMINAL


def delete_run(tx: Transaction, context: Context, run_id: str, by: Actor | None = None) -> None:
    """Remove a run with its tasks and logs.

    Raises:
        Unknown: there is no such run.
        Conflict: it is not over.
    """
    run = context.book.get(tx.connection, run_id)
    if run is None:
        raise Unknown(f"there is no run {shown(run_id)}")
    if run.state not in TERMINAL:
        raise Conflict(f"the run is {run.state}; only a run that is over can be removed")
    runs.delete(tx.connection, run.key)
    context.book.drop(run_id)
    audit.note(
        tx.connection, context.clock.now(), run_id, run.session, "deleted", by, flow=run.flow_name
    )
    if run.session is not None:
        session = run.session
        tx.after_commit(lambda: context.liveness.ended(session, run_id))
