"""How flows and their tasks have been doing of late: from their newest runs, so that it costs the same ever after.

What was learned from all durations since the statistics were cleared (engine.statistics) stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row

from perfect.server.engine import views
from perfect.server.engine.clock import iso
from perfect.server.engine.statistics import Durations
from perfect.server.store import flows, statistics, trends
from perfect.states import TERMINAL, TaskState

# runs of a flow that are looked at, and rows of tasks of all of these together
RUNS = 200
_TASKS = 20_000
# runs of a flow that are counted
COUNTED = 10_000
# tasks whose result came from a cache, or that only stand for those they were mapped to, did no work
_IDLE = frozenset({"cached", "mapped"})


@dataclass(slots=True)
class _Outcomes:
    """How the runs of one flow, or the tasks of one name, ended.

    Attributes:
        completed: how many.
        failed: how many.
        durations: of completed ones, in ms.
    """

    completed: int = 0
    failed: int = 0
    durations: list[int] = field(default_factory=list)

    def add(self, state: str, duration: int | None) -> None:
        """One ended in that state, and took so many ms, unless that says nothing."""
        if state == TaskState.COMPLETED:
            self.completed += 1
            if duration is not None:
                self.durations.append(duration)
        elif state == TaskState.FAILED:
            self.failed += 1

    def shown(self) -> dict[str, Any]:
        judged = self.completed + self.failed
        return {
            "completed": self.completed,
            "failed": self.failed,
            "successRate": self.completed / judged if judged else None,
            "p95DurationMs": percentile(self.durations, 0.95),
        }


def percentile(values: Sequence[int], share: float) -> int | None:
    """The smallest of the values that at least this share of them do not exceed; None where there are none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def learned(rows: Iterable[Row[Any]]) -> dict[str, Any]:
    """What is known of one task or flow, of whatever clients have one of that name."""
    merged, updated = Durations(), 0
    for row in rows:
        merged = merged.merged(Durations(row.samples, row.mean, row.m2, row.runs))
        updated = max(updated, row.updated)
    return {
        "avgDurationMs": round(merged.mean, 3),
        "stdDevDurationMs": round(merged.deviation, 3),
        "sampleCount": merged.samples,
        "lastUpdated": iso(updated) if updated else None,
    }


def overview(connection: Connection) -> list[dict[str, Any]]:
    """Every flow with what is known of it and how its newest runs went, by name."""
    since = statistics.cleared_at(connection)
    known = {row.flow_id: row for row in statistics.of_flows(connection, task="")}
    shown = []
    for flow in flows.listed(connection):
        outcomes, last = _Outcomes(), 0
        for state, at, duration in trends.ended(connection, flow.id, RUNS, since):
            outcomes.add(state, duration)
            last = max(last, at)
        row = known.get(flow.id)
        shown.append(
            {
                "flowId": flow.id,
                "flowName": flow.name,
                "clientId": flow.client,
                "runs": trends.count(connection, flow.id, COUNTED),
                "lastRun": iso(last) if last else None,
                **learned([] if row is None else [row]),
                **outcomes.shown(),
            }
        )
    return shown


def of_flow(connection: Connection, flow: str) -> dict[str, Any] | None:
    """How the flow of that name or id, and its tasks, have been doing; None where there is none."""
    ids = flows.ids_named(connection, flow)
    if not ids:
        return None
    ended = _ended(connection, ids, statistics.cleared_at(connection))
    known: dict[str, list[Row[Any]]] = {}
    for rows in statistics.by_flow(connection, ids).values():
        for row in rows:
            known.setdefault(row.task, []).append(row)
    return {
        "runs": sum(trends.count(connection, one, COUNTED) for one in ids),
        "lastRun": iso(ended[0].at) if ended else None,
        **learned(known.pop("", [])),
        **_of_runs(ended).shown(),
        "history": [views.ended_run(row) for row in ended],
        "tasks": _tasks(connection, ended, known),
    }


def _tasks(
    connection: Connection, ended: Sequence[Row[Any]], known: dict[str, list[Row[Any]]]
) -> list[dict[str, Any]]:
    outcomes: dict[str, _Outcomes] = {}
    runs: dict[str, set[int]] = {}
    keys: list[int] = []
    left = _TASKS
    for row in ended:
        if keys and row.tasks > left:
            break
        keys.append(row.key)
        left -= row.tasks
    for task in trends.tasks_of(connection, keys, _TASKS) if keys else ():
        worked = (task.reason or "").lower() not in _IDLE
        outcomes.setdefault(task.name, _Outcomes()).add(
            task.state, task.duration if worked else None
        )
        runs.setdefault(task.name, set()).add(task.run)
    return [
        {
            "taskName": name,
            "runs": len(runs.get(name, ())),
            **learned(known.get(name, [])),
            **outcomes.get(name, _Outcomes()).shown(),
        }
        for name in sorted(known.keys() | outcomes.keys())
    ]


def _ended(connection: Connection, flow_ids: Sequence[str], since: int) -> list[Row[Any]]:
    """Of the newest runs of these flows those that ended, newest first."""
    found = [row for one in flow_ids for row in trends.newest(connection, one, RUNS)]
    found.sort(key=lambda row: (row.at, row.key), reverse=True)
    return [
        row
        for row in found[:RUNS]
        if row.state in TERMINAL and row.ended is not None and row.ended > since
    ]


def _of_runs(ended: Iterable[Row[Any]]) -> _Outcomes:
    outcomes = _Outcomes()
    for row in ended:
        outcomes.add(row.state, views.duration(row))
    return outcomes
