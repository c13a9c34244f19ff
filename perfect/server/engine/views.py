"""Flows and runs as they are shown: the JSON of the protocol (CLIENT_ARCHITECTURE.md)."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from perfect.server.engine import book, endings, progress, schedules, taskviews
from perfect.server.engine.clock import iso
from perfect.server.store import attempts, logs, queue, statistics, tasks, trends
from perfect.server.store.records import FlowRecord, RunRecord
from perfect.states import TERMINAL, TaskState

# as `endings.of_runs`
Reach = Callable[[Connection, list[RunRecord], int], dict[int, float]]

NO_CLIENT = "no connected client has this flow"


def flow(connection: Connection, record: FlowRecord, *, connected: bool) -> dict[str, Any]:
    """A flow of the library, with learned estimates in place of the client's.

    Args:
        connection: to read from.
        record: the flow.
        connected: whether a client that can run it is there.
    """
    last = trends.last(connection, [record.id]).get(record.id)
    return _flow(connection, record, book.estimates(connection, record.id), last, connected)


def library(
    connection: Connection, records: Sequence[FlowRecord], connected: Container[str]
) -> list[dict[str, Any]]:
    """Flows as `flow` shows one; ``connected`` has the ids of those that a client can run."""
    ids = [record.id for record in records]
    known = statistics.by_flow(connection, ids)
    last = trends.last(connection, ids)
    return [
        _flow(
            connection,
            record,
            book.estimates_from(known.get(record.id, ())),
            last.get(record.id),
            record.id in connected,
        )
        for record in records
    ]


def _flow(
    connection: Connection,
    record: FlowRecord,
    learned: Mapping[str, int],
    last: Row[Any] | None,
    connected: bool,
) -> dict[str, Any]:
    defined = orjson.loads(record.tasks)
    estimates = [learned.get(task["name"], task["estimatedTime"]) for task in defined]
    parts = progress.shares([task["weight"] for task in defined], estimates) if defined else []
    return {
        "id": record.id,
        "clientId": record.client,
        "name": record.name,
        "description": record.description,
        "tags": orjson.loads(record.tags),
        "tasks": [
            {
                "id": f"{record.id}-{index}",
                "name": task["name"],
                "description": task["description"],
                "weight": part,
                "estimatedTime": estimate,
                "crucialPass": task["crucialPass"],
            }
            for index, (task, estimate, part) in enumerate(
                zip(defined, estimates, parts, strict=True)
            )
        ],
        "schedule": _loaded(record.schedule),
        "nextFire": None if record.schedule is None else schedules.next_of(connection, record.id),
        "parameters": _loaded(record.parameters),
        "edges": _loaded(record.edges),
        "connected": connected,
        "lastRun": None if last is None else _last(last),
        "createdAt": iso(record.created),
        "updatedAt": iso(record.updated),
    }


def _last(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.run_id,
        "state": row.state,
        "createdAt": iso(row.created),
        "startTime": iso(row.started),
        "endTime": iso(row.ended),
        "durationMs": duration(row),
        "cancelling": _is_cancelling(row),
    }


def summaries(
    connection: Connection,
    records: Sequence[RunRecord],
    now: int,
    base_path: str,
    reach: Reach = endings.of_runs,
) -> list[dict[str, Any]]:
    """Runs without their tasks and logs, for lists.

    Args:
        connection: to read from.
        records: the runs.
        now: ms since the epoch.
        base_path: what URLs begin with.
        reach: how far those are that are not over.
    """
    open_runs = [record for record in records if record.state not in TERMINAL]
    reached = reach(connection, open_runs, now)
    waiting = {r.flow_id for r in records if r.state == TaskState.PENDING and r.flow_id}
    lonely = queue.lonely(connection, waiting) if waiting else set()
    return [
        _summary(record, reached.get(record.key), base_path, _waits(record, lonely))
        for record in records
    ]


def whole(
    connection: Connection,
    record: RunRecord,
    now: int,
    base_path: str,
    *,
    log_lines: int,
    task_limit: int,
    with_attempts: bool = True,
) -> dict[str, Any]:
    """A run with its tasks and the end of its log.

    Args:
        connection: to read from.
        record: the run.
        now: ms since the epoch.
        base_path: what URLs begin with.
        log_lines: of the log at most so many lines, the last; a marker says how many came before.
        task_limit: at most so many tasks, the first, and so many of their earlier attempts.
        with_attempts: whether to show the earlier attempts at all.
    """
    shown = summaries(connection, [record], now, base_path)[0]
    rows = tasks.listed(connection, record.key, limit=task_limit)
    lines = logs.tail(connection, record.key, log_lines)
    shown["logs"] = _marked(lines, record.lines) + [line.text for line in lines]
    by_task: dict[int, list[str]] = {}
    for line in lines:
        if line.task is not None:
            by_task.setdefault(line.task, []).append(line.text)
    unusual = taskviews.unusual(connection, record)
    parts = progress.shares([r.weight for r in rows], [r.estimate for r in rows]) if rows else []
    shown["tasks"] = [
        taskviews.task(record, row, part, unusual.get(row.name), now)
        | {"logs": by_task.get(row.idx, [])}
        for row, part in zip(rows, parts, strict=True)
    ]
    if with_attempts:
        last = rows[-1].idx if rows else -1
        earlier = attempts.listed(connection, record.key, last, task_limit)
        taskviews.add_attempts(shown["tasks"], earlier)
    return shown


def duration(record: RunRecord | Row[Any]) -> int | None:
    """How long a run took, in ms; None while it has not ended."""
    if record.started is None or record.ended is None:
        return None
    lasted: int = record.ended - record.started
    return lasted


def ended_run(record: RunRecord | Row[Any]) -> dict[str, Any]:
    """A run that has ended, as the histories of statistics have it."""
    return {
        "runId": record.id,
        "state": record.state,
        "configuration": record.configuration,
        "startTime": iso(record.started),
        "endTime": iso(record.ended),
        "durationMs": duration(record),
    }


def _is_cancelling(record: RunRecord | Row[Any]) -> bool:
    return record.cancel is not None and record.state not in TERMINAL


def log_line(row: logs.LogRow) -> dict[str, Any]:
    """One line of a log."""
    return {
        "seq": row.seq,
        "task": row.task,
        "stream": row.stream,
        "level": row.level,
        "time": iso(row.at),
        "text": row.text,
    }


def report(record: RunRecord, size: int, base_path: str) -> dict[str, Any]:
    """What is known of a run's report; ``size`` in bytes."""
    filename = f"{record.id}.html"
    return {
        "runId": record.id,
        "filename": filename,
        "path": f"reports/{filename}",
        "url": f"{base_path}/reports/{filename}",
        "size": size,
        "createdAt": iso(record.ended),
        "modifiedAt": iso(record.modified),
        "flowState": record.state,
        "configuration": record.configuration,
        "tags": orjson.loads(record.tags),
    }


def _waits(record: RunRecord, lonely: set[str]) -> str | None:
    """Why a run has not begun, where that is not plain."""
    if record.state != TaskState.PENDING or record.flow_id not in lonely:
        return None
    return NO_CLIENT if record.reason is None else f"{NO_CLIENT}; {record.reason}"


def _summary(
    record: RunRecord, reached: float | None, base_path: str, waits: str | None
) -> dict[str, Any]:
    terminal = record.state in TERMINAL
    return {
        "id": record.id,
        "flowId": record.flow_id,
        "flowName": record.flow_name,
        "clientId": record.client,
        "state": record.state,
        "startTime": iso(record.started),
        "endTime": iso(record.ended),
        "createdAt": iso(record.created),
        "durationMs": duration(record),
        "configuration": record.configuration,
        "parameters": _loaded(record.parameters),
        "tags": orjson.loads(record.tags),
        "trigger": record.trigger,
        "parent": record.parent,
        "retryOf": record.retry_of,
        "progress": record.progress if reached is None else reached,
        "taskCount": record.tasks,
        "logLines": record.lines,
        "inferred": bool(record.inferred),
        "cancelling": _is_cancelling(record),
        "reason": record.reason if waits is None else waits,
        "error": _loaded(record.error),
        "reportPath": f"{base_path}/reports/{record.id}.html" if terminal else None,
    }


def _marked(lines: Sequence[logs.LogRow], total: int) -> list[str]:
    missing = total - len(lines)
    return [f"… [{missing} earlier lines: GET /api/runs/<id>/logs]"] if missing > 0 else []


def _loaded(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)
