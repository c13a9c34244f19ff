"""Tasks of runs as they are shown: brief in lists, whole alone, and in the form of the event stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Connection

from perfect.server.engine import progress
from perfect.server.engine.clock import iso
from perfect.server.engine.statistics import Durations
from perfect.server.store import attempts, statistics, tasklists, tasks
from perfect.server.store.records import RunRecord
from perfect.states import TaskState

# bytes of a result and error that go along with a task in the small form
_SMALL = 8 * 1024


def page(
    connection: Connection,
    record: RunRecord,
    wanted: tasklists.Filter,
    after: int,
    limit: int,
    now: int,
) -> dict[str, Any]:
    """Tasks of a run without results, errors and attempts, in order of their calls.

    Args:
        connection: to read from.
        record: the run.
        wanted: which of its tasks.
        after: only those with an index above this.
        limit: how many at most.
        now: ms since the epoch.
    """
    rows = tasklists.page(connection, record.key, wanted, after, limit)
    census = tasklists.census(connection, record.key)
    slow = unusual(connection, record)
    share = _share(census)
    return {
        "tasks": [
            _brief(record, row, share(row.weight, row.estimate), slow.get(row.name), now)
            for row in rows
        ],
        "next": rows[-1].idx if len(rows) == limit else None,
        "total": record.tasks,
        "states": {row.state: row.tasks for row in census},
    }


def whole(connection: Connection, record: RunRecord, index: int, now: int) -> dict[str, Any] | None:
    """A task with its result, error and earlier attempts; None if the run has none at that index."""
    row = next(iter(tasks.at(connection, record.key, [index])), None)
    if row is None:
        return None
    part = _share(tasklists.census(connection, record.key))(row.weight, row.estimate)
    shown = task(record, row, part, unusual(connection, record).get(row.name), now)
    add_attempts([shown], attempts.of_task(connection, record.key, index))
    return shown


def moving(
    connection: Connection, record: RunRecord, rows: Sequence[tasks.TaskRow], now: int
) -> list[dict[str, Any]]:
    """Some tasks of a run in the small form: without logs, attempts and share of the run.

    Long results and errors are left out as well, and ``cut`` says so.
    """
    slow = unusual(connection, record)
    shown = []
    for row in rows:
        one = task(record, row, 0.0, slow.get(row.name), now)
        del one["weight"]
        one["cut"] = len(row.result or "") + len(row.error or "") > _SMALL
        if one["cut"]:
            one["result"] = one["error"] = None
        shown.append(one)
    return shown


def task(
    run: RunRecord, row: tasks.TaskRow, part: float, unusual: float | None, now: int
) -> dict[str, Any]:
    """A task with its result and error.

    Args:
        run: whose task it is.
        row: the task.
        part: its share of the run.
        unusual: beyond how many ms it takes unusually long, if that is known.
        now: ms since the epoch.
    """
    return _brief(run, row, part, unusual, now) | {
        "result": _loaded(row.result),
        "error": _loaded(row.error),
    }


def unusual(connection: Connection, record: RunRecord) -> dict[str, float | None]:
    """Beyond how many ms each task of a run takes unusually long."""
    return {
        row.task: Durations(row.samples, row.mean, row.m2, row.runs).unusual
        for row in (statistics.of_flow(connection, record.flow_id) if record.flow_id else ())
    }


def add_attempts(shown: list[dict[str, Any]], rows: Sequence[attempts.AttemptRow]) -> None:
    """Give shown tasks their earlier attempts, and one that waits for the next the error of the last."""
    by_task: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_task.setdefault(row.idx, []).append(_attempt(row))
    for one in shown:
        one["attempts"] = earlier = by_task.get(one["index"], [])
        if one["state"] == TaskState.RETRYING and one["error"] is None and earlier:
            one["error"] = earlier[-1]["error"]


def _brief(
    run: RunRecord, row: tasks.TaskRow, part: float, unusual: float | None, now: int
) -> dict[str, Any]:
    until = row.ended if row.ended is not None else now
    overdue = (
        row.state == TaskState.RUNNING
        and unusual is not None
        and row.started is not None
        and now - row.started > unusual
    )
    return {
        "id": f"{run.id}-{row.idx}",
        "taskId": None if run.flow_id is None else f"{run.flow_id}-{row.idx}",
        "index": row.idx,
        "taskName": row.name,
        "state": row.state,
        "attempt": row.attempt,
        "startTime": iso(row.started),
        "endTime": iso(row.ended),
        "durationMs": row.duration,
        "weight": part,
        "estimatedTime": row.estimate,
        "progress": round(
            progress.of_task(row.state, row.progress, row.started, row.estimate, until), 2
        ),
        "ownProgress": row.progress is not None,
        "reason": row.reason,
        "crucialPass": bool(row.crucial),
        "mapIndex": row.map_index,
        "upstream": _loaded(row.upstream),
        "performanceWarning": bool(row.slow) or overdue,
        "unusualAfterMs": None if unusual is None else round(unusual),
    }


def _share(census: Sequence[tasklists.CensusRow]) -> progress.Share:
    """What share of its run a task is."""
    return progress.share(
        tasks=sum(row.tasks for row in census),
        weighted=sum(row.weighted for row in census),
        weight=sum(row.weight or 0.0 for row in census),
        estimate=sum(row.estimate for row in census),
    )


def _attempt(row: attempts.AttemptRow) -> dict[str, Any]:
    known = row.started is not None and row.ended is not None
    return {
        "attempt": row.attempt,
        "startTime": iso(row.started),
        "endTime": iso(row.ended),
        "durationMs": max(0, row.ended - row.started) if known else None,
        "error": _loaded(row.error),
        "reason": row.reason,
        "worker": row.worker,
    }


def _loaded(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)
