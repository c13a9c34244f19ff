"""Reporting to a backend that has only the documented endpoints (PROTOCOL parts 0 and 1).

Such a backend wants a flow registered anew for every run, task indices without a gap, bodies under
100 kB, and cannot fail a run except by a failed crucial task.
"""

from __future__ import annotations

import logging
from collections import deque
from time import monotonic, time
from typing import Any

from perfect.api import PerfectAPIClient, encode, quote
from perfect.errors import BackendRefused
from perfect.jsonable import clean
from perfect.records import FlowRun, LogLine, Registration, TaskRun
from perfect.states import TaskState

log = logging.getLogger("perfect")

LARGEST_BODY = 90_000  # bytes; the backends' own limit is 100 kB
LARGEST_LOG = 80_000  # bytes of log lines in one request, as JSON
ERRORS_BORNE = 6  # 5xx answers in a row before a run is given up: about 3 s
TICK = 0.1  # s between progress updates
ASKED_AGAIN = 3  # times that a run is asked for when the backend answers without a runId


class _Run:
    """What the backend knows of one run."""

    def __init__(self, remote_id: str | None, estimates: dict[str, float]) -> None:
        self.remote_id = remote_id  # None: the backend did not take the run
        self.estimates = estimates  # ms by task name, as the backend has learned them
        self.next_index = 0
        self.held: dict[int, TaskRun] = {}  # begun out of order: a gap would break the run
        self.running: dict[int, TaskRun] = {}
        self.crucial_failed = False


class DocumentedReporter:
    """Sends records one by one, merged and in order."""

    native = False

    def __init__(self, client: PerfectAPIClient) -> None:
        self._client = client
        self._runs: dict[str, _Run] = {}
        self._served: dict[str, dict[str, Any]] = {}  # flows to be registered again after a run
        self._next_tick = 0.0
        self._errors = 0  # 5xx answers in a row
        self.refused = 0  # requests that the backend turned down for good

    @property
    def pending(self) -> int:
        return 0  # a record stays with the sender until it is answered

    def deliver(self, records: deque[Any]) -> None:
        """Send from the left; a record is removed once the backend has answered.

        Raises:
            BackendError: the rest is to be tried again.
        """
        while records:
            record = records[0]
            taken = 1
            if type(record) is Registration:
                register(self._client, _registration(record.flow))
                self._served[record.flow["name"]] = record.flow
            elif type(record) is LogLine:
                taken = self._send_lines(records)
            elif type(record) is TaskRun:
                self._send_task(record)
            elif not record.announced:
                self._runs[record.id] = self._begin(record)
                record.announced = True
            else:
                self._end(record, records)
            for _ in range(taken):
                records.popleft()

    def tick(self) -> float | None:
        """Tell the progress of running tasks, at most every 100 ms and never from a backlog."""
        running = [
            (run, entry)
            for run in self._runs.values()
            for entry in run.running.values()
            if not entry.state.is_terminal
        ]
        if not running:
            return None
        now = monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK
            for run, entry in running:
                progress = self._progress(run, entry)
                self._tell(run, entry.index, {"state": "RUNNING", "progress": progress})
        return max(0.01, self._next_tick - monotonic())

    # --- runs ------------------------------------------------------------------------------

    def _begin(self, record: FlowRun) -> _Run:
        estimates: dict[str, float] = {}
        if record.trigger == "request":
            return _Run(record.id, estimates)
        try:
            for _ in range(ASKED_AGAIN):
                flow = self._client.request("POST", "/api/flows", _registration(record.flow))[
                    "flow"
                ]
                for task in flow.get("tasks") or ():
                    if isinstance(task.get("estimatedTime"), (int, float)):
                        estimates[str(task.get("name"))] = task["estimatedTime"]
                answer = self._client.request(
                    "POST",
                    f"/api/engine/run/{quote(flow['id'])}",
                    {"configuration": record.configuration},
                )
                if answer.get("runId"):
                    return _Run(str(answer["runId"]), estimates)
        except BackendRefused as refusal:
            if refusal.status >= 500:
                raise
        except (TypeError, KeyError, AttributeError):  # an answer of another shape
            pass
        self.refused += 1
        return _Run(None, estimates)

    def _end(self, record: FlowRun, records: deque[Any]) -> None:
        run = self._runs.get(record.id)
        if run is None:
            return
        for entry in list(run.running.values()):
            self._tell_end(run, entry, TaskState.FAILED, "still running when the flow ended")
        run.running.clear()
        if run.held:  # what was before them never came, and will not
            log.warning("perfect: %d tasks of run %s are not told", len(run.held), run.remote_id)
            run.held.clear()
        count = run.next_index
        if record.state is not TaskState.COMPLETED and not run.crucial_failed:
            # Only a failed crucial task fails a run there.
            error = record.error or {}
            said = record.reason or f"{error.get('type')}: {error.get('message')}"
            self._tell(
                run,
                count,
                {
                    "state": "FAILED",
                    "progress": 0,
                    "durationMs": 0,
                    "taskName": "cancelled" if record.state is TaskState.CANCELLED else "flow",
                    "estimatedTime": 0,
                    "crucialPass": True,
                    "result": {"passed": False, "note": said, "table": []},
                },
            )
            run.crucial_failed = True  # told, also if the next request has to be repeated
            count += 1
            run.next_index = count
        self._post(run, "runs", "complete", {"taskCount": count})
        if record.name in self._served:  # the run has used it up
            records.append(Registration(record.flow))
        del self._runs[record.id]

    # --- tasks -----------------------------------------------------------------------------

    def _send_task(self, entry: TaskRun) -> None:
        run = self._runs.get(entry.run.id)
        if run is None or (entry.told is not None and entry.told.is_terminal):
            return
        if entry.index > run.next_index:
            run.held[entry.index] = entry
            return
        self._tell_state(run, entry)
        if entry.index == run.next_index:
            run.next_index += 1
            while run.next_index in run.held:
                self._tell_state(run, run.held.pop(run.next_index))
                run.next_index += 1

    def _tell_state(self, run: _Run, entry: TaskRun) -> None:
        state = entry.state
        if state.is_terminal:
            self._tell_end(run, entry, state, entry.reason)
            run.running.pop(entry.index, None)
            return
        if entry.told is not None:
            return  # its progress is for `tick` to tell
        self._tell(run, entry.index, {"state": "RUNNING", "progress": 0, **_facts(entry)})
        entry.told = state
        run.running[entry.index] = entry

    def _tell_end(self, run: _Run, entry: TaskRun, state: TaskState, reason: str | None) -> None:
        completed = state in (TaskState.COMPLETED, TaskState.SKIPPED)
        result = entry.result
        if result is None and state is not TaskState.COMPLETED:
            error = entry.error
            note = f"{error['type']}: {error['message']}" if error else reason or state.lower()
            result = {"passed": completed, "note": note, "table": []}
        ended = time() if entry.ended is None else entry.ended
        body: dict[str, Any] = {
            "state": "COMPLETED" if completed else "FAILED",
            "progress": 100 if completed else self._progress(run, entry),
            "durationMs": max(0, int((ended - entry.started) * 1000)),
            **_facts(entry),
        }
        if result is not None:
            body["result"] = result
        self._tell(run, entry.index, body)
        entry.told = state
        if not completed and entry.task.crucial_pass:
            run.crucial_failed = True

    def _progress(self, run: _Run, entry: TaskRun) -> int:
        """Percent: what the task says itself, else elapsed over estimate, at most 99."""
        if entry.progress is not None:
            return min(99, int(entry.progress * 100))
        estimate = run.estimates.get(entry.task.name, entry.task.estimated_time)
        elapsed = ((entry.ended or time()) - entry.started) * 1000
        return max(0, min(99, int(elapsed / estimate * 100))) if estimate > 0 else 99

    # --- lines -----------------------------------------------------------------------------

    def _send_lines(self, records: deque[Any]) -> int:
        """Send the lines of one run that stand next to each other; return how many."""
        first: LogLine = records[0]
        lines: list[str] = []
        size = 0
        for record in records:
            if type(record) is not LogLine or record.run != first.run:
                break
            prefix = "" if record.task_index is None else "[Task Output] "
            line = fitting(prefix + clean(record.text), LARGEST_LOG)
            size += len(encode(line)) + 2
            if lines and size > LARGEST_LOG:
                break
            lines.append(line)
        run = self._runs.get(first.run)
        if run is not None:
            self._post(run, "flows", "logs", {"log": "\n".join(lines)})
        return len(lines)

    # --- requests ----------------------------------------------------------------------------

    def _tell(self, run: _Run, index: int, body: dict[str, Any]) -> None:
        result = body.get("result")
        if result and len(encode(body)) > LARGEST_BODY:
            body["result"] = _shortened(result, LARGEST_BODY - 10_000)
        self._post(run, "runs", f"tasks/{index}/state", body)

    def _post(self, run: _Run, kind: str, what: str, body: dict[str, Any]) -> None:
        if run.remote_id is None:
            return
        try:
            self._client.request("POST", f"/api/{kind}/{quote(run.remote_id)}/{what}", body)
        except BackendRefused as refusal:
            # 401, 403 and 429 pass; a 5xx may; the other refusals of this record are final.
            if refusal.status in (401, 403, 429):
                raise
            if refusal.status >= 500:
                self._errors += 1
                if self._errors < ERRORS_BORNE:
                    raise
                log.warning("perfect: the backend can't track run %s: %s", run.remote_id, refusal)
                run.remote_id = None
            self.refused += 1
        self._errors = 0


def _facts(entry: TaskRun) -> dict[str, Any]:
    task = entry.task
    return {
        "taskName": task.name,
        "estimatedTime": task.estimated_time,
        "crucialPass": task.crucial_pass,
    }


def register(client: PerfectAPIClient, flow: dict[str, Any]) -> None:
    """Register a flow; a backend that does not want it is not asked again.

    Raises:
        BackendError: it may want it later.
    """
    try:
        client.request("POST", "/api/flows", flow)
    except BackendRefused as refusal:
        if refusal.status in (401, 403, 429) or refusal.status >= 500:
            raise
        log.warning("perfect: the backend does not take flow %r: %s", flow["name"], refusal)


def _registration(flow: dict[str, Any]) -> dict[str, Any]:
    """The registration body without what only our backend understands."""
    known = ("name", "description", "tags", "tasks", "schedule")
    body = {name: flow[name] for name in known if name in flow}
    if len(str(body.get("schedule") or "").split()) != 5:
        body["schedule"] = None  # an interval in seconds has no cron form
    return body


def fitting(text: str, largest: int) -> str:
    """Text whose JSON has at most `largest` bytes, cut with a marker if need be."""
    if len(text) * 12 <= largest or len(encode(text)) <= largest:
        return text
    room = largest - 100
    kept = text[:room]
    while (size := len(encode(kept))) > room:
        kept = kept[: len(kept) * room // size]
    return f"{kept}… [cut, {len(text) - len(kept)} characters]"


def _shortened(result: dict[str, Any], largest: int) -> dict[str, Any]:
    """A result that fits into `largest` bytes: fewer rows, and a note that says so."""
    rows = result["table"]
    note = fitting(str(result["note"]), largest // 3)
    kept = rows
    while kept and len(encode(kept)) > largest // 2:
        kept = kept[: len(kept) // 2]
    if len(kept) < len(rows):
        note = f"{note} [table cut: {len(kept)} of {len(rows)} rows]".strip()
    return {"passed": result["passed"], "note": note, "table": kept}
