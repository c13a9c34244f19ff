"""Reporting to a backend that has only the documented endpoints (PROTOCOL parts 0 and 1).

Such a backend wants a flow registered anew for every run, task indices without a gap, bodies under
100 kB, and cannot fail a run except by a failed crucial task.
"""

from __future__ import annotations

import json
import logging
from time import monotonic, time
from typing import Any

from perfect.api import PerfectAPIClient, encode, quote
from perfect.errors import BackendRefused
from perfect.events import Event
from perfect.states import TaskState
from perfect.ticker import percent_of

log = logging.getLogger("perfect")

LARGEST_BODY = 90_000  # bytes; the backends' own limit is 100 kB
LARGEST_LOG = 80_000  # bytes of log lines in one request, as JSON
ERRORS_BORNE = 6  # 5xx answers in a row before a run is given up: about 3 s
TICK = 0.1  # s between progress updates
ASKED_AGAIN = 3  # times that a run is asked for when the backend answers without a runId


class _Run:
    """What the backend knows of one run."""

    def __init__(
        self, remote_id: str | None, flow: dict[str, Any], estimates: dict[str, float]
    ) -> None:
        self.remote_id = remote_id  # None: the backend did not take the run
        self.flow = flow
        self.estimates = estimates  # ms by task name, as the backend has learned them
        # How many tasks the backend has: those of the registration, and those told beyond them.
        self.length = len(flow.get("tasks") or ())
        self.count = 0  # one more than the highest index told
        self.missing: set[int] = set()  # indices below it that were not told yet
        self.held: dict[int, dict[str, Any]] = {}  # begun out of order: a gap would break the run
        self.running: dict[int, dict[str, Any]] = {}
        self.ended: set[int] = set()
        self.crucial_failed = False


class DocumentedReporter:
    """Sends events one by one, merged and in order."""

    native = False
    flows_at_once = 1

    def __init__(self, client: PerfectAPIClient) -> None:
        self.settled = 0
        self.refused = 0  # requests that the backend turned down for good
        self._client = client
        self._runs: dict[str, _Run] = {}
        self._served: set[str] = set()  # flows to be registered again after a run
        self._next_tick = 0.0
        self._errors = 0  # 5xx answers in a row

    def send(self, events: list[Event]) -> None:
        """Send events in order; `settled` follows them one by one."""
        said = [json.loads(event.text) for event in events]
        # What a task became within the batch is told at once, at its first event.
        latest = {(f["run"], f["index"]): f for f in said if f["type"] == "task"}
        position = 0
        while position < len(events):
            event, fields = events[position], said[position]
            kind = fields["type"]
            if kind == "log":
                position += self._send_lines(said, position)
            else:
                if kind == "task":
                    self._send_task(latest[event.run, fields["index"]])
                elif kind == "run.started":
                    self._runs[event.run] = self._begin(fields)
                elif kind == "run.ended":
                    self._end(fields)
                position += 1
            self.settled = events[position - 1].seq

    def register(self, flows: list[dict[str, Any]]) -> None:
        for flow in flows:
            register(self._client, _registration(flow))
            self._served.add(flow["name"])

    def notes(self) -> dict[str, str]:
        """Where each run that is under way stands, by its id."""
        return {
            run_id: json.dumps(
                [
                    *(run.remote_id, run.flow, run.length, run.count),
                    *(sorted(run.missing), run.crucial_failed),
                ]
            )
            for run_id, run in self._runs.items()
        }

    def recall(self, notes: dict[str, str]) -> None:
        """Go on with another process's runs."""
        for run_id, note in notes.items():
            if note.startswith("["):  # the others are about the spool
                remote_id, flow, length, count, missing, crucial_failed = json.loads(note)
                run = self._runs[run_id] = _Run(remote_id, flow, {})
                run.length, run.count, run.missing = length, count, set(missing)
                run.crucial_failed = crucial_failed

    def next_tick(self) -> float | None:
        """s until the running tasks' progress is to be told; None while none is running."""
        if not any(run.running for run in self._runs.values()):
            return None
        return self._next_tick - monotonic()

    def tick(self) -> None:
        """Tell the progress of running tasks, at most every 100 ms and never from a backlog."""
        self._next_tick = monotonic() + TICK
        for run in list(self._runs.values()):
            for fields in list(run.running.values()):
                if fields["state"] != TaskState.RUNNING:  # waits for its next attempt
                    continue
                progress = self._progress(run, fields)
                self._tell(run, fields["index"], {"state": "RUNNING", "progress": progress})

    # --- runs ------------------------------------------------------------------------------

    def _begin(self, fields: dict[str, Any]) -> _Run:
        estimates: dict[str, float] = {}
        sent = fields["flow"]
        if fields["trigger"] == "request":
            return _Run(fields["run"], sent, estimates)
        try:
            for _ in range(ASKED_AGAIN):
                flow = self._client.request("POST", "/api/flows", _registration(sent))["flow"]
                for task in flow.get("tasks") or ():
                    if isinstance(task.get("estimatedTime"), (int, float)):
                        estimates[str(task.get("name"))] = task["estimatedTime"]
                answer = self._client.request(
                    "POST",
                    f"/api/engine/run/{quote(flow['id'])}",
                    {"configuration": fields["configuration"]},
                )
                if answer.get("runId"):
                    return _Run(str(answer["runId"]), sent, estimates)
        except BackendRefused as refusal:
            if refusal.may_pass:
                raise
            log.warning("perfect: the backend does not take a run: %s", refusal)
        except (TypeError, KeyError, AttributeError):  # an answer of another shape
            log.warning("perfect: the backend's answer to a registration can't be read")
        self.refused += 1
        return _Run(None, sent, estimates)

    def _end(self, fields: dict[str, Any]) -> None:
        run = self._runs.get(fields["run"])
        if run is None:
            return
        state = TaskState(fields["state"])
        for task in list(run.running.values()):
            task["reason"] = "still running when the flow ended"
            self._tell_end(run, task, TaskState.FAILED)
        run.running.clear()
        if run.held:  # what was before them never came, and will not
            log.warning("perfect: %d tasks of run %s are not told", len(run.held), run.remote_id)
            run.held.clear()
        for index in sorted(
            run.missing
        ):  # a task that has not ended would keep the run from ending
            self._tell(run, index, _lost())
        if state is not TaskState.COMPLETED and not run.crucial_failed:
            # Only a failed crucial task fails a run there.
            error = fields.get("error") or {}
            said = fields.get("reason") or f"{error.get('type')}: {error.get('message')}"
            self._tell(
                run,
                run.count,
                {
                    "state": "FAILED",
                    "progress": 0,
                    "durationMs": 0,
                    "taskName": "cancelled" if state is TaskState.CANCELLED else "flow",
                    "estimatedTime": 0,
                    "crucialPass": True,
                    "result": {"passed": False, "note": said, "table": []},
                },
            )
            run.crucial_failed = True  # told, also if the next request has to be repeated
            run.count += 1
        self._post(run, "runs", "complete", {"taskCount": run.count})
        del self._runs[fields["run"]]
        if run.flow["name"] in self._served:  # the run has used it up
            register(self._client, _registration(run.flow))

    # --- tasks -----------------------------------------------------------------------------

    def _send_task(self, fields: dict[str, Any]) -> None:
        run = self._runs.get(fields["run"])
        if run is None:
            return
        index = fields["index"]
        if index in run.ended:
            return
        if index > run.length:
            run.held[index] = fields
            return
        self._tell_state(run, fields)
        while run.length in run.held:
            self._tell_state(run, run.held.pop(run.length))

    def _tell_state(self, run: _Run, fields: dict[str, Any]) -> None:
        index = fields["index"]
        state = TaskState(fields["state"])
        if state.is_terminal:
            self._tell_end(run, fields, state)
            run.running.pop(index, None)
            run.ended.add(index)
        else:
            told = run.running.get(index)
            if told is None or told["state"] != state:  # how far it is, is for `tick` to tell
                self._tell(run, index, {"state": state, "progress": 0, **_facts(fields)})
            run.running[index] = fields
        if index >= run.count:
            run.missing.update(range(run.count, index))
            run.count = index + 1
            run.length = max(run.length, run.count)
        else:
            run.missing.discard(index)

    def _tell_end(self, run: _Run, fields: dict[str, Any], state: TaskState) -> None:
        completed = state in (TaskState.COMPLETED, TaskState.SKIPPED)
        result = fields.get("result")
        reason = fields.get("reason")
        if result is None and (reason or state is not TaskState.COMPLETED):
            error = fields.get("error")
            note = reason or state.lower()
            if error:
                note = f"{error['type']}: {error['message']}".removesuffix(": ")
            if state in (TaskState.SKIPPED, TaskState.CANCELLED):  # it has no such states
                note = note if note.startswith(state.lower()) else f"{state.lower()}: {note}"
            result = {"passed": completed, "note": note, "table": []}
        body: dict[str, Any] = {
            "state": "COMPLETED" if completed else "FAILED",
            "progress": 100 if completed else self._progress(run, fields),
            "durationMs": max(0, fields.get("ended", int(time() * 1000)) - fields["started"]),
            **_facts(fields),
        }
        if result is not None:
            body["result"] = result
        self._tell(run, fields["index"], body)
        if not completed and fields["crucial"]:
            run.crucial_failed = True

    def _progress(self, run: _Run, fields: dict[str, Any]) -> int:
        """Percent: what the task says itself, else elapsed over estimate, at most 99."""
        if "progress" in fields:
            return min(99, int(fields["progress"]))
        estimate = run.estimates.get(fields["name"], fields["estimate"])
        elapsed = fields.get("ended", time() * 1000) - fields["started"]
        return percent_of(elapsed, estimate)

    # --- lines -----------------------------------------------------------------------------

    def _send_lines(self, said: list[dict[str, Any]], position: int) -> int:
        """Send the lines of one run that stand next to each other; return how many."""
        first = said[position]
        lines: list[str] = []
        size = 0
        for place in range(position, len(said)):
            fields = said[place]
            if fields["run"] != first["run"] or fields["type"] != "log":
                break
            prefix = "" if fields["index"] is None else "[Task Output] "
            line = fitting(prefix + fields["text"], LARGEST_LOG)
            size += len(encode(line)) + 2
            if lines and size > LARGEST_LOG:
                break
            lines.append(line)
        run = self._runs.get(first["run"])
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


def _facts(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "taskName": fields["name"],
        "estimatedTime": fields["estimate"],
        "crucialPass": fields["crucial"],
    }


def _lost() -> dict[str, Any]:
    """The end of a task that nobody told of: its thread has died."""
    note = {"passed": False, "note": "it was not told what became of this task", "table": []}
    return {"state": "FAILED", "progress": 0, "durationMs": 0, "crucialPass": False, "result": note}


def register(client: PerfectAPIClient, flow: dict[str, Any]) -> None:
    """Register a flow; a backend that does not want it is not asked again.

    Raises:
        BackendError: it may want it later.
    """
    try:
        client.request("POST", "/api/flows", flow)
    except BackendRefused as refusal:
        if refusal.may_pass:
            raise
        not_taken(flow, refusal)


def not_taken(flow: dict[str, Any], reason: object) -> None:
    """Say that the backend does not want a flow."""
    log.warning("perfect: the backend does not take flow %r: %s", flow["name"], reason)


def _registration(flow: dict[str, Any]) -> dict[str, Any]:
    """The registration body without what only our backend understands."""
    known = ("name", "description", "tags", "tasks", "schedule")
    body = {name: flow[name] for name in known if name in flow}
    body["schedule"] = _cron_in_utc(body.get("schedule"))
    return body


def _cron_in_utc(schedule: Any) -> str | None:
    """A schedule as such a backend knows it; None for what it would run at other times, or with other values."""
    if isinstance(schedule, dict):
        known = schedule.get("timezone") == "UTC" and "parameters" not in schedule
        known = known and "configuration" not in schedule
        schedule = schedule.get("cron") if known else None
    return schedule if isinstance(schedule, str) and len(schedule.split()) == 5 else None


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
