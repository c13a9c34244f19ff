"""Native events: a batch of one session, checked one by one and written together.

This is the hot path. Checks are written out by hand, rows are gathered as tuples and written with one
statement per kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from perfect.server.engine import book, endings, progress, registry, values
from perfect.server.engine.attempts import rows as attempt_rows
from perfect.server.engine.context import Context
from perfect.server.engine.definitions import DEFAULT_ESTIMATE, FlowDefinition, configuration
from perfect.server.engine.parameters import hidden, kept
from perfect.server.engine.refusals import Conflict, Invalid, Refusal, TooLarge, shown
from perfect.server.engine.speaker import Speaker
from perfect.server.store import Transaction, attempts, logs, runs, sessions, tasks
from perfect.server.store.records import RunRecord
from perfect.states import TERMINAL, TaskState

_RUN_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_STREAMS = frozenset({"stdout", "stderr", "logging", "system"})
_TRIGGERS = frozenset({"call", "request", "schedule"})
_LONGEST_LEVEL = 50
# stands for the error of a task of which an earlier attempt had one
_NO_ERROR = "null"
# state as written on the wire → the state kept, and its code; other letter cases are looked up by TaskState
_STATES: dict[Any, tuple[str, int]] = {
    state.value: (state.value, book.CODES[state.value]) for state in TaskState
}
_SKIPPED_OR_COMPLETED = frozenset({TaskState.COMPLETED.value, TaskState.SKIPPED.value})


@dataclass(slots=True)
class Receipt:
    """What became of a batch.

    Attributes:
        committed: the newest sequence number of the session that is dealt with.
        rejected: events that were refused, each ``{"seq", "error"}``.
        cancel: ids of the runs in the batch that are to be cancelled; the heartbeat names all.
    """

    committed: int
    rejected: list[dict[str, Any]] = field(default_factory=list)
    cancel: list[str] = field(default_factory=list)


def ingest(tx: Transaction, context: Context, speaker: Speaker, body: bytes) -> Receipt:
    """Apply a batch.

    Args:
        tx: the transaction.
        context: the engine's.
        speaker: whose events they are.
        body: ``{"events": […]}`` as it came.

    Raises:
        Invalid: the body is not of that shape.
    """
    try:
        events = orjson.loads(body)["events"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise Invalid('the body is not JSON of the form {"events": […]}', str(error)) from None
    if events.__class__ is not list:
        raise Invalid(f"events={shown(events)}: is not a list")
    if len(events) > context.limits.events:
        raise TooLarge(f"events: there are {len(events)}, more than {context.limits.events}")
    batch = _Batch(tx, context, speaker)
    batch.apply(events)
    return batch.receipt


class _Batch:
    """The events of one request, and the rows they become."""

    def __init__(self, tx: Transaction, context: Context, speaker: Speaker) -> None:
        self._tx = tx
        self._connection = tx.connection
        self._context = context
        self._speaker = speaker
        self._limits = context.limits
        self._now = context.clock.now()
        self._runs: dict[Any, RunRecord] = {}
        self._inserts: list[tuple[Any, ...]] = []
        self._updates: list[tuple[Any, ...]] = []
        self._details: list[tuple[int, int, str | None, str | None]] = []
        self._attempts: list[tuple[Any, ...]] = []
        self._logs: list[tuple[Any, ...]] = []
        known = sessions.seq(
            self._connection, speaker.session, speaker.client, speaker.native, self._now
        )
        self.receipt = Receipt(known)

    def apply(self, events: list[Any]) -> None:
        """Apply the events that are new and write what they change."""
        handlers: dict[Any, Callable[[RunRecord, dict[str, Any]], None]] = {
            "task": self._task,
            "log": self._log,
            "run.started": self._started,
            "run.ended": self._ended,
        }
        rejected = self.receipt.rejected
        before = newest = self.receipt.committed
        applied = 0
        for event in events:
            try:
                if event.__class__ is not dict:
                    raise Invalid(f"an event is not an object but {shown(event)}")
                seq = event.get("seq")
                if seq.__class__ is not int or not 0 < seq <= values.MAX_NUMBER:
                    raise Invalid(f"seq={shown(seq)}: is not a positive integer")
                if seq <= newest:
                    continue
                newest = seq
                run = self._runs.get(event.get("run")) or self._run(event)
                kind = event.get("type")
                handle = handlers.get(kind)
                if handle is None:
                    raise Invalid(f"type={shown(kind)}: is not a kind of event")
                handle(run, event)
                applied += 1
            except (Refusal, TypeError) as refusal:
                # TypeError: an object or list where a key of a dictionary was expected
                rejected.append(_rejection(event, refusal))
        self._write()
        self._context.tally.events += applied
        self._context.tally.rejected += len(rejected)
        for run in self._runs.values():
            run.modified = self._now
            runs.save(self._connection, run)
        if newest != before:
            sessions.save_seq(self._connection, self._speaker.session, newest)
            self.receipt.committed = newest
        self.receipt.cancel = [
            run.id for run in self._runs.values() if run.cancel is not None and not run.settled
        ]

    def _run(self, event: dict[str, Any]) -> RunRecord:
        """The run of an event, which any event may create."""
        run_id = event.get("run")
        if not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):
            raise Invalid(f"run={shown(run_id)}: is not a UUID")
        run = self._context.book.get(self._connection, run_id)
        if run is None:
            run = self._create(run_id, event)
        elif run.session != self._speaker.session:
            if run.session is None:
                raise Conflict(f"run {run_id} was not claimed by this session")
            raise Conflict(f"run {run_id} belongs to another session")
        self._runs[run_id] = run
        if run.inferred or not run.settled:
            book.codes(self._connection, run)
            book.learned(self._connection, run)
        return run

    def _create(self, run_id: str, event: dict[str, Any]) -> RunRecord:
        at = self._time(event)
        session = self._speaker.session
        run = RunRecord.new(run_id, self._speaker.client, session, now=self._now, started=at)
        runs.insert_new(self._connection, run, {})
        self._context.tally.started += 1
        self._context.book.add(run)
        self._tx.after_commit(
            lambda: None if run.settled else self._context.liveness.started(session, run_id)
        )
        return run

    def _time(self, event: dict[str, Any]) -> int:
        at = event.get("t")
        return self._now if at is None else values.moment("t", at)

    def _task(self, run: RunRecord, event: dict[str, Any]) -> None:
        get = event.get
        index = get("index")
        if index.__class__ is not int or index < 0:
            raise Invalid(f"index={shown(index)}: is not a number from 0")
        state, code = _STATES.get(get("state")) or _STATES[values.state(get("state"))]
        if run.settled and not run.inferred:
            raise Conflict(f"the run is already {run.state}")
        name = get("name")
        if name is not None and (
            name.__class__ is not str or not 0 < len(name) <= self._limits.name or "\x00" in name
        ):
            name = values.name("name", name, self._limits.name)
        attempt = get("attempt")
        if attempt is not None and (
            attempt.__class__ is not int or not 0 < attempt <= values.MAX_ATTEMPT
        ):
            raise Invalid(f"attempt={shown(attempt)}: is not a positive integer")
        started, ended, duration = get("started"), get("ended"), None
        if started is not None:
            started = values.moment("started", started)
        if ended is not None:
            ended = values.moment("ended", ended) if code == book.DONE else None
            if ended is not None and started is not None:
                duration = ended - started if ended > started else 0
        estimate, weight, crucial = get("estimate"), get("weight"), get("crucial")
        if estimate is not None:
            estimate = values.whole("estimate", estimate)
        if name is not None and run.learned and name in run.learned:
            estimate = run.learned[name]
        if weight is not None:
            weight = values.number("weight", weight)
        if crucial is not None and crucial.__class__ is not bool:
            raise Invalid(f"crucial={shown(crucial)}: is neither true nor false")
        reached = get("progress")
        if reached is not None:
            reached = values.number("progress", reached, 100)
        map_index, upstream, reason = get("map_index"), get("upstream"), get("reason")
        if map_index is not None:
            map_index = values.whole("map_index", map_index, self._limits.tasks)
        if upstream is not None:
            upstream = _indices(upstream, self._limits.tasks)
        if reason is not None:
            reason = values.text("reason", reason, values.LONGEST_REASON)
        result, error, earlier = get("result"), get("error"), get("attempts")
        if result is not None:
            result = values.mapping("result", result)
            result = values.as_json("result", result, self._limits.depth)
        if error is not None:
            error = values.error("error", error, self._limits.depth)
        elif attempt is not None and attempt > 1 and state != "RETRYING":
            error = _NO_ERROR
        if earlier is not None:
            earlier = attempt_rows(run.key, index, earlier, self._limits)

        # nothing is refused from here on, so nothing is half done
        if code == book.DONE and state not in _SKIPPED_OR_COMPLETED and reached is None:
            reached = progress.of_task(state, None, started, estimate or 0, ended or 0)
        codes = run.codes
        assert codes is not None
        known = len(codes)
        if index < known:
            if codes[index] == book.DONE:
                raise Conflict(f"task {index} has already ended")
            codes[index] = code
            self._updates.append(
                (
                    name,
                    state,
                    attempt,
                    started,
                    attempt,
                    ended,
                    duration,
                    ended,
                    attempt,
                    estimate,
                    weight,
                    crucial,
                    reached,
                    attempt,
                    map_index,
                    upstream,
                    reason,
                    0,
                    run.key,
                    index,
                )
            )
        else:
            if index > known:
                self._fill(run, codes, index)
            elif index >= self._limits.tasks:
                raise Invalid(f"index={index}: a run has at most {self._limits.tasks} tasks")
            codes.append(code)
            run.tasks = index + 1
            self._inserts.append(
                (
                    run.key,
                    index,
                    name or f"Task {index}",
                    state,
                    attempt or 1,
                    started,
                    ended,
                    duration,
                    DEFAULT_ESTIMATE if estimate is None else estimate,
                    weight,
                    1 if crucial is None else crucial,
                    reached,
                    map_index,
                    upstream,
                    reason,
                    0,
                    0,
                )
            )
        if result is not None or error is not None:
            self._details.append((run.key, index, result, error))
        if earlier is not None:
            self._attempts += earlier

    def _fill(self, run: RunRecord, codes: bytearray, index: int) -> None:
        """Enter the tasks that a gap in the numbering leaves out."""
        values.new_index(index, len(codes), self._limits)
        for missing in range(len(codes), index):
            self._inserts.append(
                registry.pending(run.key, missing, f"Task {missing}", DEFAULT_ESTIMATE)
            )
            codes.append(book.PENDING)

    def _log(self, run: RunRecord, event: dict[str, Any]) -> None:
        get = event.get
        line, index, stream, level = get("text"), get("index"), get("stream"), get("level")
        at = get("t")
        if line.__class__ is not str:
            raise Invalid(f"text={shown(line)}: is not text")
        if index is not None and (
            index.__class__ is not int or not 0 <= index < self._limits.tasks
        ):
            raise Invalid(f"index={shown(index)}: is not the number of a task")
        if stream not in _STREAMS:
            if stream is not None:
                raise Invalid(f"stream={shown(stream)}: is not one of {sorted(_STREAMS)}")
            stream = "stdout"
        if level is not None and (level.__class__ is not str or len(level) > _LONGEST_LEVEL):
            raise Invalid(f"level={shown(level)}: is not the name of a level")
        at = self._now if at is None else values.moment("t", at)
        if "\x00" in line:
            line = line.replace("\x00", "␀")
        if len(line) * 4 > self._limits.log_line:
            line = values.cut(line, self._limits.log_line)
        run.lines += 1
        self._logs.append((run.key, run.lines, index, stream, level, at, line))

    def _started(self, run: RunRecord, event: dict[str, Any]) -> None:
        definition = FlowDefinition.parse(event.get("flow"), self._limits)
        at = self._time(event)
        chosen = configuration(event.get("configuration"), self._limits)
        parameters = event.get("parameters")
        if parameters is not None:
            values.mapping("parameters", parameters)
            parameters = kept(
                values.as_json("parameters", parameters, self._limits.depth), self._limits
            )
        parent = event.get("parent")
        if parent is not None and not (isinstance(parent, str) and _RUN_ID.fullmatch(parent)):
            raise Invalid(f"parent={shown(parent)}: is not a UUID")
        trigger = event.get("trigger") or run.trigger
        if trigger not in _TRIGGERS:
            raise Invalid(f"trigger={shown(trigger)}: is not one of {sorted(_TRIGGERS)}")
        if run.settled and not run.inferred:
            raise Conflict(f"the run is already {run.state}")
        flow = registry.register(self._tx, self._context, self._speaker, definition, by_run=True)
        run.flow_id, run.flow_name, run.tags = flow.id, flow.name, flow.tags
        run.configuration, run.parent = chosen, parent
        if run.trigger == "call":  # else the backend knows better who asked for it
            run.trigger = trigger
        # What was asked for stays, because a retry asks for it again; but a secret does not.
        if parameters is not None and (
            run.parameters is None or run.trigger == "call" or hidden(parameters)
        ):
            run.parameters = parameters
        run.started = run.at = at
        if not run.inferred:
            run.state = TaskState.RUNNING.value
        run.learned = None
        runs.set_tags(self._connection, run, definition.tags)
        self._inserts.extend(registry.predefined(self._connection, run, flow))

    def _ended(self, run: RunRecord, event: dict[str, Any]) -> None:
        state = values.state(event.get("state"))
        if state not in TERMINAL:
            raise Invalid(f"state={state}: does not end a run")
        at = self._time(event)
        count = event.get("task_count")
        if count is not None:
            count = values.whole("task_count", count, self._limits.tasks)
        reason = event.get("reason")
        if reason is not None:
            reason = values.text("reason", reason, values.LONGEST_REASON)
        error = event.get("error")
        if error is not None:
            error = values.error("error", error, self._limits.depth)
        if run.settled and not run.inferred:
            raise Conflict(f"the run is already {run.state}")
        self._write()
        run.error = error
        endings.end(self._tx, self._context, run, state, at, reason=reason, task_count=count)

    def _write(self) -> None:
        """Write what has gathered."""
        tasks.insert_many(self._connection, self._inserts)
        tasks.update_many(self._connection, self._updates)
        tasks.save_details(self._connection, self._details)
        attempts.insert_many(self._connection, self._attempts)
        logs.insert_many(self._connection, self._logs)
        self._context.tally.tasks += len(self._inserts)
        self._context.tally.lines += len(self._logs)
        self._inserts, self._updates, self._details = [], [], []
        self._attempts, self._logs = [], []


def _indices(value: Any, most: int) -> str:
    if (
        value.__class__ is not list
        or len(value) > most
        or not all(index.__class__ is int and 0 <= index < most for index in value)
    ):
        raise Invalid(f"upstream={shown(value)}: is not a list of task numbers")
    return orjson.dumps(value).decode()


def _rejection(event: Any, refusal: Exception) -> dict[str, Any]:
    seq = event.get("seq") if isinstance(event, dict) else None
    message = refusal.message if isinstance(refusal, Refusal) else f"a field is wrong: {refusal}"
    return {"seq": seq if seq.__class__ is int else None, "error": message}
