"""How runs end: what the client said, or what its silence means."""

from __future__ import annotations

from sqlalchemy import Connection

from perfect.server.engine import alerts, progress
from perfect.server.engine.context import Context
from perfect.server.engine.statistics import Durations
from perfect.server.store import Transaction, audit, requests, runs, statistics, tasks
from perfect.server.store.records import RunRecord
from perfect.states import TERMINAL, TaskState


def end(
    tx: Transaction,
    context: Context,
    run: RunRecord,
    state: TaskState,
    ended: int,
    *,
    reason: str | None,
    task_count: int | None = None,
    inferred: bool = False,
) -> None:
    """Close a run: trim and close its tasks, learn from its durations, and save it.

    Args:
        tx: the transaction; rows of the run's tasks must have been written.
        context: the engine's.
        run: not terminal, or FAILED at once by a crucial task, or ended by inference.
        state: a terminal state.
        ended: ms since the epoch.
        reason: why, where that is not plain.
        task_count: tasks at this index and beyond were never called; None leaves them.
        inferred: concluded from silence; the client may correct it once.
    """
    connection = tx.connection
    counted = bool(run.inferred) and run.state == TaskState.COMPLETED
    told = bool(run.inferred) and run.state == TaskState.FAILED
    if run.inferred:
        audit.note(
            connection,
            context.clock.now(),
            run.id,
            run.session,
            "replaced",
            inferred={"state": run.state, "reason": run.reason},
            reported={"state": state.value, "reason": reason},
        )
    if task_count is not None and task_count < run.tasks:
        tasks.trim(connection, run.key, task_count)
        run.tasks = task_count
    cancelled = state is TaskState.CANCELLED
    tasks.close_open(
        connection,
        run.key,
        TaskState.CANCELLED if cancelled else TaskState.FAILED,
        reason if inferred and reason else "still running when the run ended",
        ended,
        inferred,
    )
    reason_of_pending = "the run was cancelled" if cancelled else "never started"
    tasks.cancel_pending(connection, run.key, reason_of_pending, inferred)
    run.state = state.value
    run.ended = max(ended, run.started or ended)
    run.reason = reason or (run.reason if run.retry_of else None)
    run.inferred = int(inferred)
    run.settled = 1
    context.tally.ended[run.state] += 1
    run.modified = context.clock.now()
    run.progress = of_runs(connection, [run], run.ended)[run.key]
    run.codes = None
    if not counted and (not inferred or state is TaskState.COMPLETED):
        _learn(connection, context, run)
    requests.delete_of_run(connection, run.key)
    runs.save(connection, run)
    alerts.of_end(tx, context, run, replaced=told)
    if run.session is not None:
        session, run_id = run.session, run.id
        tx.after_commit(lambda: context.liveness.ended(session, run_id))


def fall_silent(tx: Transaction, context: Context, run_id: str, seconds: float) -> None:
    """The session that executes a run has not been heard of for so long."""
    run = context.book.get(tx.connection, run_id)
    if run is None or run.settled:
        return
    now = context.clock.now()
    if run.state in TERMINAL:
        # failed at once by a crucial task, and `complete` never came
        end(tx, context, run, TaskState(run.state), run.ended or now, reason=run.reason)
        return
    headerless = run.session is not None and run.session.startswith("@")
    if (
        headerless
        and run.tasks
        and not tasks.any_unfinished(tx.connection, run.key)
        and not tasks.any_crucial_failed(tx.connection, run.key)
    ):
        state, reason = TaskState.COMPLETED, "every task ended; the client never said complete"
    elif run.cancel is not None:
        state = TaskState.CANCELLED
        reason = f"cancelled from the dashboard; no sign of life from the client for {seconds:g} s"
    else:
        state, reason = TaskState.FAILED, f"no sign of life from the client for {seconds:g} s"
    end(tx, context, run, state, now, reason=reason, inferred=True)
    audit.note(
        tx.connection, now, run.id, run.session, "inferred", state=state.value, reason=reason
    )


def of_runs(connection: Connection, records: list[RunRecord], now: int) -> dict[int, float]:
    """The progress of runs from 0 to 100, by key, from what is kept of their tasks.

    Args:
        connection: to read from.
        records: the runs.
        now: ms since the epoch.
    """
    found = {
        record.key: progress.of_run(record.state, 0.0 if not record.tasks else record.progress)
        for record in records
    }
    open_runs = {
        record.key: record
        for record in records
        if record.state != TaskState.COMPLETED and record.tasks
    }
    if not open_runs:
        return found
    keys = list(open_runs)
    running: dict[int, tuple[float, float, float]] = dict.fromkeys(keys, (0.0, 0.0, 0.0))
    for row in tasks.running(connection, keys):
        part = progress.of_task(row.state, row.progress, row.started, row.estimate, now)
        plain, weighted, estimated = running[row.run]
        running[row.run] = (
            plain + part,
            weighted + part * (row.weight or 0.0),
            estimated + part * row.estimate,
        )
    for row in tasks.sums(connection, keys):
        plain, weighted, estimated = running[row.run]
        if row.weighted == row.tasks and row.weight > 0:
            share = (row.weight_done + weighted) / row.weight
        elif row.weighted < row.tasks and row.estimate > 0:
            share = (row.estimate_done + estimated) / row.estimate
        else:
            share = (row.done + plain) / row.tasks
        found[row.run] = progress.of_run(open_runs[row.run].state, share)
    return found


def _learn(connection: Connection, context: Context, run: RunRecord) -> None:
    """Add the run's durations to the statistics, and mark tasks that took unusually long."""
    if run.flow_id is None:
        return
    known = {
        row.task: Durations(row.samples, row.mean, row.m2, row.runs)
        for row in statistics.of_flow(connection, run.flow_id)
    }
    rows = []
    for name, samples, total, squares, longest in tasks.durations(connection, run.key):
        before = known.get(name, Durations())
        if before.unusual is not None and longest > before.unusual:
            tasks.mark_slow(connection, run.key, name, before.unusual)
        rows.append((name, before.merged(Durations.of_sums(samples, total, squares))))
    if run.state == TaskState.COMPLETED and run.started is not None and run.ended is not None:
        duration = run.ended - run.started
        whole = known.get("", Durations())
        rows.append(("", whole.merged(Durations.of_sums(1, duration, float(duration) ** 2))))
    now = context.clock.now()
    statistics.save_many(
        connection,
        [
            {
                "flow_id": run.flow_id,
                "task": name,
                "samples": learned.samples,
                "mean": learned.mean,
                "m2": learned.m2,
                "runs": learned.runs,
                "updated": now,
            }
            for name, learned in rows
        ],
    )
