"""What a deployed backend keeps and how it decides; its quirks are listed in documented_backend.py."""

from __future__ import annotations

import re
import statistics
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

STATES = ("PENDING", "RUNNING", "RETRYING", "COMPLETED", "FAILED")
TERMINAL = ("COMPLETED", "FAILED")


@dataclass
class Task:
    """A task of a flow, or of a run."""

    name: str
    description: str = ""
    weight: float | None = None
    estimated: int = 1000
    crucial: bool = True
    state: str = "PENDING"
    progress: float = 0.0
    started: datetime | None = None
    ended: datetime | None = None
    duration: int | None = None
    result: dict[str, Any] | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def shown_progress(self) -> float:
        """What the client said last, or what the clock says."""
        if self.state == "RUNNING" and self.started:
            elapsed = (datetime.now(UTC) - self.started).total_seconds() * 1000
            clock = min(99.0, elapsed / self.estimated * 100) if self.estimated else 99.0
            return max(self.progress, clock)
        return self.progress


@dataclass
class Flow:
    """A registered flow; gone from the library once it was run."""

    name: str
    description: str
    tags: dict[str, str]
    tasks: list[Task]
    schedule: str | None = None
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class Run:
    """A run.

    Attributes:
        broken: a gap in the task indices spoiled it.
        reason: why it failed, where the client didn't say so.
        completes: how often `complete` arrived.
    """

    flow: Flow
    configuration: str
    tasks: list[Task]
    state: str = "RUNNING"
    logs: list[str] = field(default_factory=list)
    broken: bool = False
    reason: str = ""
    completes: int = 0
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state not in TERMINAL

    def end(self, state: str, reason: str = "") -> None:
        """Give it its last state; its running tasks fail with it."""
        self.state, self.reason, self.ended = state, reason, datetime.now(UTC)
        for task in self.tasks:
            if state == "FAILED" and task.state in ("RUNNING", "RETRYING"):
                task.state, task.ended = "FAILED", self.ended


class Refusal(Exception):
    """A request that is answered with a failure: ``.status``, ``.error``."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


class Gone(Exception):
    """Nobody is there to be answered."""


class Engine:
    """Flows, runs and the rules between them; its routes are called with ``changed`` held.

    Args:
        silence_limit: s without heartbeat or poll after which every run fails.
        poll_timeout: s after which a poll finds nothing.

    Attributes:
        changed: notified after every change; guards everything here.
        closed: polls end and nothing watches the heartbeat.
    """

    def __init__(self, silence_limit: float, poll_timeout: float) -> None:
        self.silence_limit = silence_limit
        self.poll_timeout = poll_timeout
        self.changed = threading.Condition()
        self.closed = True
        self.flows: dict[str, Flow] = {}
        self.runs: dict[str, Run] = {}
        self.durations: dict[tuple[str, str], list[int]] = {}
        self._requests: deque[Run] = deque()
        self._learned_at: dict[tuple[str, str], datetime] = {}
        self._last_sign = 0.0

    def open(self) -> None:
        """Start the heartbeat's clock anew."""
        with self.changed:
            self.closed = False
            self._last_sign = time.monotonic()

    def close(self) -> None:
        """End all polls and the watch."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    # Part 1: client to backend

    def register(self, body: dict[str, Any], query: dict[str, str]) -> Any:
        name = _text(body, "name")
        if name is None or not 1 <= len(name) <= 200:
            raise Refusal(400, "name must be 1-200 characters")
        automatic = _flag(body, "autoTrigger", False)
        tags = {} if body.get("tags") is None else body["tags"]
        if not isinstance(tags, dict) or not all(isinstance(tag, str) for tag in tags.values()):
            raise Refusal(400, "tags must map text to text")
        entries = [] if body.get("tasks") is None else body["tasks"]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise Refusal(400, "tasks must be a list of objects")
        tasks = []
        for entry in entries:
            task_name = _text(entry, "name")
            if not task_name:
                raise Refusal(400, "a task needs a name")
            task = Task(task_name, _text(entry, "description") or "")
            task.estimated = self._estimate(name, task_name, _whole(entry, "estimatedTime"), 1000)
            task.crucial = _flag(entry, "crucialPass", True)
            task.weight = _number(entry, "weight", None)
            tasks.append(task)
        flow = Flow(name, _text(body, "description") or "", tags, tasks, _text(body, "schedule"))
        for known in self.flows.values():
            if known.name == name:
                flow.id, flow.created = known.id, known.created
        self.flows[flow.id] = flow
        answer = {"success": True, "flow": self._flow_json(flow)}
        if automatic:
            self.request_run(flow, _text(body, "autoTriggerConfig") or "development")
        return answer

    def start_run(self, body: dict[str, Any], query: dict[str, str], flow_id: str) -> Any:
        flow = self.flows.get(flow_id)
        if flow is None:
            return {"success": True}
        run = self._new_run(flow, _text(body, "configuration") or "development", "RUNNING")
        return {"success": True, "runId": run.id}

    def update_task(
        self, body: dict[str, Any], query: dict[str, str], run_id: str, index_text: str
    ) -> Any:
        run = self._known_run(run_id)
        state = (_text(body, "state") or "").upper()
        if state not in STATES:
            raise Refusal(400, f"state must be one of {', '.join(STATES)}")
        if not (index_text.isascii() and index_text.isdigit()):
            raise Refusal(400, "the task index must be a number from 0")
        progress = _number(body, "progress", None)
        if progress is not None and not 0 <= progress <= 100:
            raise Refusal(400, "progress must be within 0-100")
        duration = _whole(body, "durationMs")
        result = _result(body)
        name, estimated = _text(body, "taskName"), _whole(body, "estimatedTime")
        if not run.active:
            raise Refusal(404, "Run not found")
        if run.broken:
            raise Refusal(500, "Internal server error")
        index = int(index_text)
        if index > len(run.tasks):
            run.broken = True
            raise Refusal(500, "Cannot read properties of undefined (reading 'state')")
        if index == len(run.tasks):
            run.tasks.append(Task(name or f"Task {index + 1}"))
        task = run.tasks[index]
        if task.state in TERMINAL:
            raise Refusal(404, "Task not found")
        task.name = name or task.name
        if estimated is not None or name is not None:
            task.estimated = self._estimate(run.flow.name, task.name, estimated, task.estimated)
        task.crucial = _flag(body, "crucialPass", task.crucial)
        task.progress = task.progress if progress is None else progress
        task.result = task.result if result is None else result
        task.state = state
        run.state = "RUNNING"
        if state == "RUNNING" and task.started is None:
            task.started = datetime.now(UTC)
        if state in TERMINAL:
            task.ended, task.duration = datetime.now(UTC), duration
            task.progress = 100.0 if state == "COMPLETED" else task.progress
        if state == "FAILED" and task.crucial:
            run.end("FAILED", f"task {task.name} failed")
        return {"success": True}

    def complete(self, body: dict[str, Any], query: dict[str, str], run_id: str) -> Any:
        run = self._known_run(run_id)
        count = _whole(body, "taskCount")
        if count is None:
            raise Refusal(400, "taskCount is required")
        if run.broken:
            raise Refusal(500, "Internal server error")
        run.completes += 1
        if not run.active:
            return {"success": True}
        del run.tasks[count:]
        if all(task.state in TERMINAL for task in run.tasks):
            run.end("COMPLETED")
            for task in run.tasks:
                if task.state == "COMPLETED" and task.duration is not None:
                    self.learn(run.flow.name, task.name, task.duration)
        return {"success": True}

    def log(self, body: dict[str, Any], query: dict[str, str], run_id: str) -> Any:
        run = self._known_run(run_id)
        log = _text(body, "log")
        if log is None:
            raise Refusal(400, "log is required")
        run.logs.append(log)
        return {"success": True}

    def heartbeat(self, body: dict[str, Any], query: dict[str, str]) -> Any:
        self._last_sign = time.monotonic()
        return {"success": True}

    def poll(self, still_there: Callable[[], bool]) -> Any:
        """Wait for an execution request; without ``changed`` held.

        Raises:
            Gone: the poller left, or the backend is dying.
        """
        deadline = time.monotonic() + self.poll_timeout
        with self.changed:
            self._last_sign = time.monotonic()
            self.changed.notify_all()
            while not self.closed and still_there():
                if self._requests:
                    run = self._requests.popleft()
                    run.state = "RUNNING"
                    self.changed.notify_all()
                    return {
                        "run_id": run.id,
                        "flow_name": run.flow.name,
                        "configuration": run.configuration,
                    }
                if time.monotonic() >= deadline:
                    return None
                self.changed.wait(deadline - time.monotonic())
        raise Gone

    # Part 2: dashboard and tools to backend

    def list_flows(self, body: dict[str, Any], query: dict[str, str]) -> Any:
        return [self._flow_json(flow) for flow in self.flows.values()]

    def list_runs(self, body: dict[str, Any], query: dict[str, str]) -> Any:
        return [_run_json(run) for run in reversed(self.runs.values())]

    def trigger(self, body: dict[str, Any], query: dict[str, str], flow_id: str) -> Any:
        flow = self.flows.get(flow_id)
        if flow is None:
            raise Refusal(404, "Flow not found")
        run = self.request_run(flow, _text(body, "configuration") or "development")
        return {"success": True, "runId": run.id}

    def delete_run(self, body: dict[str, Any], query: dict[str, str], run_id: str) -> Any:
        if self._known_run(run_id).active:
            raise Refusal(409, "The run is still running")
        del self.runs[run_id]
        return {"success": True}

    def statistics(self, body: dict[str, Any], query: dict[str, str]) -> Any:
        flows: dict[str, list[float]] = {}
        for run in self.runs.values():
            if run.state == "COMPLETED" and run.ended:
                took = (run.ended - run.started).total_seconds() * 1000
                flows.setdefault(run.flow.name, []).append(took)
        return {
            "success": True,
            "taskStatistics": [
                {
                    "flowName": flow,
                    "taskName": task,
                    **_stats(durations),
                    "lastUpdated": _time(self._learned_at[flow, task]),
                }
                for (flow, task), durations in self.durations.items()
            ],
            "flowStatistics": [
                {"flowName": flow, **_stats(durations)} for flow, durations in flows.items()
            ],
        }

    def clear_statistics(self, body: dict[str, Any], query: dict[str, str]) -> Any:
        self.durations.clear()
        self._learned_at.clear()
        return {"success": True}

    def task_history(
        self, body: dict[str, Any], query: dict[str, str], flow: str, task: str
    ) -> Any:
        entries = [
            {"runId": run.id, **_task_json(entry, 0.0)}
            for run in self.runs.values()
            for entry in run.tasks
            if run.flow.name == flow and entry.name == task and entry.state in TERMINAL
        ]
        durations = self.durations.get((flow, task), [])
        return {"success": True, "history": _limited(entries, query), "stats": _stats(durations)}

    def flow_history(self, body: dict[str, Any], query: dict[str, str], flow: str) -> Any:
        ended = [run for run in self.runs.values() if run.flow.name == flow and run.ended]
        took = [(r.ended - r.started).total_seconds() * 1000 for r in ended if r.ended]
        entries = [_run_json(run) for run in ended]
        return {"success": True, "history": _limited(entries, query), "stats": _stats(took)}

    def run_report(self, body: dict[str, Any], query: dict[str, str], run_id: str) -> Any:
        run = self._known_run(run_id)
        if run.active:
            raise Refusal(404, "Report not found")
        return {"success": True, "report": _report_json(run)}

    def flow_reports(self, body: dict[str, Any], query: dict[str, str], flow: str) -> Any:
        runs = [run for run in self.runs.values() if run.flow.name == flow and run.ended]
        return {"success": True, "flowName": flow, "reports": [_report_json(run) for run in runs]}

    # What they share

    def _known_run(self, run_id: str) -> Run:
        run = self.runs.get(run_id)
        if run is None:
            raise Refusal(404, "Run not found")
        return run

    def _new_run(self, flow: Flow, configuration: str, state: str) -> Run:
        if not any(run.active for run in self.runs.values()):
            self._last_sign = time.monotonic()
        del self.flows[flow.id]
        tasks = [
            Task(task.name, task.description, task.weight, task.estimated, task.crucial)
            for task in flow.tasks
        ]
        run = Run(flow, configuration, tasks, state)
        self.runs[run.id] = run
        self.changed.notify_all()
        return run

    def request_run(self, flow: Flow, configuration: str) -> Run:
        run = self._new_run(flow, configuration, "PENDING")
        self._requests.append(run)
        return run

    def _estimate(self, flow: str, task: str, given: int | None, otherwise: int) -> int:
        durations = self.durations.get((flow, task), [])
        if len(durations) >= 2:
            return round(statistics.fmean(durations))
        return otherwise if given is None else given

    def learn(self, flow: str, task: str, duration: int) -> None:
        self.durations.setdefault((flow, task), []).append(duration)
        self._learned_at[flow, task] = datetime.now(UTC)

    def watch_silence(self) -> None:
        """Fail every run when the heartbeat stops, until closed; without ``changed`` held."""
        with self.changed:
            while not self.closed:
                active = [run for run in self.runs.values() if run.active]
                left = self._last_sign + self.silence_limit - time.monotonic()
                if active and left <= 0:
                    for run in active:
                        run.end("FAILED", f"no heartbeat for {self.silence_limit:g} s")
                    self._requests.clear()
                    self.changed.notify_all()
                else:
                    self.changed.wait(left if active else None)

    def _flow_json(self, flow: Flow) -> dict[str, Any]:
        return {
            "id": flow.id,
            "name": flow.name,
            "description": flow.description,
            "tags": flow.tags,
            "tasks": [
                {
                    "id": task.id,
                    "name": task.name,
                    "description": task.description,
                    "weight": share,
                    "estimatedTime": task.estimated,
                    "crucialPass": task.crucial,
                }
                for task, share in zip(flow.tasks, _shares(flow.tasks), strict=True)
            ],
            "createdAt": _time(flow.created),
        }


_ANSWERS: list[tuple[str, str, Callable[..., Any]]] = [
    ("POST", r"/api/flows", Engine.register),
    ("POST", r"/api/engine/register", Engine.register),
    ("POST", r"/api/engine/run/([^/]+)", Engine.start_run),
    ("POST", r"/api/runs/([^/]+)/tasks/([^/]+)/state", Engine.update_task),
    ("POST", r"/api/runs/([^/]+)/complete", Engine.complete),
    ("POST", r"/api/flows/([^/]+)/logs", Engine.log),
    ("POST", r"/api/engine/runs/([^/]+)/logs", Engine.log),
    ("POST", r"/api/heartbeat", Engine.heartbeat),
    ("GET", r"/api/execution-requests", Engine.poll),
    ("GET", r"/api/engine/flows", Engine.list_flows),
    ("GET", r"/api/engine/runs", Engine.list_runs),
    ("POST", r"/api/engine/trigger/([^/]+)", Engine.trigger),
    ("DELETE", r"/api/runs/([^/]+)", Engine.delete_run),
    ("GET", r"/api/statistics", Engine.statistics),
    ("DELETE", r"/api/statistics", Engine.clear_statistics),
    ("GET", r"/api/statistics/task-history/([^/]+)/([^/]+)", Engine.task_history),
    ("GET", r"/api/statistics/flow-history/([^/]+)", Engine.flow_history),
    ("GET", r"/api/reports/run/([^/]+)", Engine.run_report),
    ("GET", r"/api/reports/flow/([^/]+)", Engine.flow_reports),
]
ROUTES = [(method, re.compile(path), answer) for method, path, answer in _ANSWERS]


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise Refusal(400, f"{name} must be text")
    return value


def _number(body: dict[str, Any], name: str, default: float | None) -> float | None:
    value = body.get(name, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise Refusal(400, f"{name} must be a number")
    return value


def _whole(body: dict[str, Any], name: str) -> int | None:
    value = _number(body, name, None)
    if value is not None and (value < 0 or value != int(value)):
        raise Refusal(400, f"{name} must be a whole number from 0")
    return None if value is None else int(value)


def _flag(body: dict[str, Any], name: str, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise Refusal(400, f"{name} must be true or false")
    return value


def _result(body: dict[str, Any]) -> dict[str, Any] | None:
    result = body.get("result")
    if result is None:
        return None
    rows = result.get("table", []) if isinstance(result, dict) else None
    if (
        not isinstance(result, dict)
        or not isinstance(result.get("passed"), bool)
        or not isinstance(result.get("note", ""), str)
        or not isinstance(rows, list)
        or not all(isinstance(row, dict) for row in rows)
    ):
        raise Refusal(400, "result must be {passed, note, table: [{...}]}")
    return result


def _shares(tasks: list[Task]) -> list[float]:
    """The tasks' weights if each has one, else their estimates, summing to 1."""
    weights = [task.weight for task in tasks if task.weight is not None]
    parts = weights if len(weights) == len(tasks) else [float(task.estimated) for task in tasks]
    total = sum(parts)
    return [part / total if total else 1 / len(tasks) for part in parts]


def _stats(durations: list[Any]) -> dict[str, Any]:
    return {
        "avgDurationMs": statistics.fmean(durations) if durations else 0,
        "stdDevDurationMs": statistics.pstdev(durations) if durations else 0,
        "sampleCount": len(durations),
    }


def _limited(entries: list[Any], query: dict[str, str]) -> list[Any]:
    limit = query.get("limit", "")
    return entries[::-1][: int(limit) if limit.isdigit() else 50]


def _time(when: datetime | None) -> str | None:
    if when is None:
        return None
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _task_json(task: Task, share: float) -> dict[str, Any]:
    return {
        "id": task.id,
        "taskId": task.id,
        "taskName": task.name,
        "state": task.state,
        "startTime": _time(task.started),
        "endTime": _time(task.ended),
        "durationMs": task.duration,
        "logs": [],
        "weight": share,
        "estimatedTime": task.estimated,
        "progress": task.shown_progress(),
        "result": task.result,
        "crucialPass": task.crucial,
        "performanceWarning": None,
    }


def _run_json(run: Run) -> dict[str, Any]:
    shares = _shares(run.tasks)
    progress = sum(s * task.shown_progress() for s, task in zip(shares, run.tasks, strict=True))
    return {
        "id": run.id,
        "flowId": run.flow.id,
        "flowName": run.flow.name,
        "state": run.state,
        "startTime": _time(run.started),
        "endTime": _time(run.ended),
        "configuration": run.configuration,
        "tags": run.flow.tags,
        "logs": list(run.logs),
        "progress": 100 if run.state == "COMPLETED" else min(99, round(progress)),
        "tasks": [_task_json(task, share) for task, share in zip(run.tasks, shares, strict=True)],
        "reportPath": None if run.active else f"/reports/{run.id}.html",
    }


def _report_json(run: Run) -> dict[str, Any]:
    return {
        "runId": run.id,
        "filename": f"{run.id}.html",
        "path": f"reports/{run.id}.html",
        "url": f"/reports/{run.id}.html",
        "size": 0,
        "createdAt": _time(run.ended),
        "modifiedAt": _time(run.ended),
        "flowState": run.state,
        "configuration": run.configuration,
        "tags": run.flow.tags,
    }
