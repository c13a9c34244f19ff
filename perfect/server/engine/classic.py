"""Runs reported by the documented requests: one state, one log text, one `complete` at a time."""

from __future__ import annotations

from typing import Any

from perfect.server.engine import book, endings, progress, registry, values
from perfect.server.engine.context import Context
from perfect.server.engine.definitions import DEFAULT_ESTIMATE
from perfect.server.engine.refusals import Conflict, Unknown, shown
from perfect.server.engine.speaker import Speaker
from perfect.server.store import Transaction, logs, requests, runs, tasks
from perfect.server.store.records import RunRecord
from perfect.states import TERMINAL, TaskState


def update_task(
    tx: Transaction,
    context: Context,
    speaker: Speaker,
    run_id: str,
    index: int,
    body: dict[str, Any],
) -> None:
    """Note the state of a task.

    Raises:
        Unknown: there is no such run.
        Conflict: the task, or the run, has ended.
        Invalid: a field or the index is wrong.
    """
    limits = context.limits
    state = values.state(body.get("state"))
    given = _given(body, limits.name, limits.depth)
    values.whole("index", index)
    run = _run_of(tx, context, speaker, run_id)
    codes = book.codes(tx.connection, run)
    values.new_index(index, len(codes), limits)
    code = codes[index] if index < len(codes) else book.PENDING
    if code == book.DONE:
        raise Conflict(f"task {index} has already ended")
    if run.settled and not run.inferred:
        raise Conflict(f"the run is already {run.state}")
    new_code = book.CODES[state.value]
    if code == new_code == book.RUNNING and state is TaskState.RUNNING and not given:
        return  # a tick of a client that leaves the progress to us
    now = context.clock.now()
    if index >= len(codes):
        learned = book.learned(tx.connection, run)
        rows = []
        for missing in range(len(codes), index + 1):
            name = given.get("name") if missing == index else None
            estimate = learned.get(name or "", given.get("estimate", DEFAULT_ESTIMATE))
            rows.append(registry.pending(run.key, missing, name or f"Task {missing}", estimate))
            codes.append(book.PENDING)
        tasks.insert_many(tx.connection, rows)
        context.tally.tasks += len(rows)
        run.tasks = len(codes)
    before = tasks.one(tx.connection, run.key, index)
    assert before is not None
    _write(tx, run, index, state, given, before, now)
    codes[index] = new_code
    run.modified = now
    crucial = given.get("crucial", bool(before.crucial))
    if state is TaskState.FAILED and crucial and run.state not in TERMINAL:
        run.state = TaskState.FAILED.value
        run.reason = f"task {given.get('name', before.name)!r} failed"
        run.ended = now
        run.progress = endings.of_runs(tx.connection, [run], now)[run.key]
    runs.save(tx.connection, run)


def complete(
    tx: Transaction, context: Context, speaker: Speaker, run_id: str, task_count: Any
) -> None:
    """The client says that a run is over; saying it again changes nothing.

    Raises:
        Unknown: there is no such run.
        Invalid: the count is wrong.
    """
    count = values.whole("taskCount", task_count, context.limits.tasks)
    run = _run_of(tx, context, speaker, run_id)
    if run.settled and not run.inferred:
        return
    failed_at_once = run.state == TaskState.FAILED and not run.inferred
    now = context.clock.now()
    if count < run.tasks:
        tasks.trim(tx.connection, run.key, count)
        run.tasks = count
    tasks.close_open(
        tx.connection, run.key, TaskState.FAILED, "still running when the run ended", now, False
    )
    failed = failed_at_once or tasks.any_crucial_failed(tx.connection, run.key)
    state = TaskState.FAILED if failed else TaskState.COMPLETED
    reason = run.reason if failed_at_once else None
    ended = run.ended if failed_at_once and run.ended is not None else now
    endings.end(tx, context, run, state, ended, reason=reason)


def add_log(tx: Transaction, context: Context, speaker: Speaker, run_id: str, text: Any) -> None:
    """Append lines to the log of a run.

    Raises:
        Unknown: there is no such run.
        Invalid: it is not text.
    """
    text = values.text("log", text, context.limits.body)
    run = _run_of(tx, context, speaker, run_id)
    now = context.clock.now()
    rows = []
    for line in text.removesuffix("\n").split("\n"):
        run.lines += 1
        kept = values.cut(line.removesuffix("\r"), context.limits.log_line)
        rows.append((run.key, run.lines, None, "stdout", None, now, kept))
    logs.insert_many(tx.connection, rows)
    context.tally.lines += len(rows)
    run.modified = now
    runs.save(tx.connection, run)


def _run_of(tx: Transaction, context: Context, speaker: Speaker, run_id: str) -> RunRecord:
    """The run somebody reports on; the first to do so has it."""
    run = context.book.get(tx.connection, run_id)
    if run is None:
        raise Unknown(f"there is no run {shown(run_id)}")
    if run.session is None:
        run.session = speaker.session
        run.state = TaskState.RUNNING.value
        run.started = context.clock.now()
        runs.move(tx.connection, run, run.started)
        requests.delete_of_run(tx.connection, run.key)
        tx.after_commit(lambda: context.liveness.started(speaker.session, run_id))
    elif run.session != speaker.session and not run.session.startswith("@"):
        raise Conflict(f"run {run_id} belongs to another session")
    return run


def _given(body: dict[str, Any], longest: int, deepest: int) -> dict[str, Any]:
    """The fields beside the state that were sent, checked."""
    given: dict[str, Any] = {}
    if (name := body.get("taskName")) is not None:
        given["name"] = values.name("taskName", name, longest)
    if (reached := body.get("progress")) is not None:
        given["progress"] = values.number("progress", reached, 100)
    if (duration := body.get("durationMs")) is not None:
        given["duration"] = values.whole("durationMs", duration)
    if (estimate := body.get("estimatedTime")) is not None:
        given["estimate"] = values.whole("estimatedTime", estimate)
    if (crucial := body.get("crucialPass")) is not None:
        given["crucial"] = values.truth("crucialPass", crucial)
    if (result := body.get("result")) is not None:
        given["result"] = values.as_json("result", values.mapping("result", result), deepest)
    return given


def _write(
    tx: Transaction,
    run: RunRecord,
    index: int,
    state: TaskState,
    given: dict[str, Any],
    before: tasks.TaskRow,
    now: int,
) -> None:
    """Change the task's row."""
    name = given.get("name")
    estimate = book.learned(tx.connection, run).get(name or before.name, given.get("estimate"))
    duration = given.get("duration")
    started = ended = None
    if state is not TaskState.PENDING and before.started is None:
        started = max(0, now - (duration or 0)) if state in TERMINAL else now
    if state in TERMINAL:
        ended = now
        if duration is None:
            duration = max(0, now - (started or before.started or now))
    else:
        duration = None
    # RUNNING with progress 0 is how deployed clients begin a task; from then on it is ours to compute
    reached = given.get("progress") or None
    if state in (TaskState.FAILED, TaskState.CANCELLED) and reached is None:
        reached = progress.of_task(
            state, None, started or before.started, estimate or before.estimate, now
        )
    tasks.update_many(
        tx.connection,
        [
            (
                name,
                state.value,
                None,
                started,
                None,
                ended,
                duration,
                ended,
                None,
                estimate,
                None,
                given.get("crucial"),
                reached,
                None,
                None,
                None,
                None,
                0,
                run.key,
                index,
            )
        ],
    )
    if "result" in given:
        tasks.save_details(tx.connection, [(run.key, index, given["result"], None)])
