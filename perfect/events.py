"""Records as events: what leaves the process, for the wire and for the spool (PROTOCOL part 4).

An event is encoded once, when it gets its sequence number. What is secret is redacted before that.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii
from time import time
from typing import Any, NamedTuple

from perfect.records import FlowRun, LogLine, TaskRun
from perfect.text import cut_line
from perfect.redaction import Redactor

# What is given up first when there is no room: progress, then log lines. A marker stands for lines given up.
PROGRESS, LOG, FACT, MARKER = 0, 1, 2, 3

# The fields that hold what the user's code said; the others are the client's own.
_FREE_FIELDS = ("flow", "parameters", "result", "error", "reason", "attempts")

_LEVELS = {level: f'"{level}"' for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")}

_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Event(NamedTuple):
    """An event as it is kept until the backend has it.

    Attributes:
        seq: its sequence number in the session.
        kind: PROGRESS, LOG, FACT or MARKER.
        run: the run it is about.
        text: its JSON, with `seq`.
    """

    seq: int
    kind: int
    run: str
    text: str


_new_event = tuple.__new__  # half the time of the named tuple's own


class Encoder:
    """Numbers and encodes the records of one session."""

    def __init__(self, redactor: Redactor) -> None:
        self.seq = 0
        self.redactor = redactor

    def encode(self, record: Any) -> Event | None:
        """The record as its event; None when it says nothing new."""
        if type(record) is LogLine:
            self.seq += 1
            return _new_event(Event, (self.seq, LOG, record.run, self._log(record)))
        kind = FACT
        if type(record) is TaskRun:
            told, attempt = record.told, record.told_attempt
            if told is not None and told.is_terminal:
                return None
            run, fields = record.run.id, _task_fields(record)
            # Nothing new but how far it is?
            if told is record.told and attempt == record.told_attempt:
                kind = PROGRESS
        elif record.announced:
            run, fields = record.id, _ended_fields(record)
        else:
            record.announced = True
            run, fields = record.id, _started_fields(record)
        self.seq += 1
        fields["seq"] = self.seq
        for name in _FREE_FIELDS:
            if fields.get(name) is not None:
                redact = self.redactor.redact_flow if name == "flow" else self.redactor.redact
                fields[name] = redact(fields[name])
        return Event(self.seq, kind, run, _to_json(fields))

    def _log(self, line: LogLine) -> str:
        # By hand: a third of the time of a dictionary, and lines come by the million.
        text = encode_basestring_ascii(cut_line(self.redactor.redact_text(line.text)))
        index = "null" if line.task_index is None else line.task_index
        return (
            f'{{"type":"log","seq":{self.seq},"run":"{line.run}","t":{int(line.time * 1000)},'
            f'"index":{index},"stream":"{line.stream}",'
            f'"level":{_LEVELS.get(line.level) or encode_basestring_ascii(line.level)},"text":{text}}}'
        )


def _started_fields(record: FlowRun) -> dict[str, Any]:
    return {
        "type": "run.started",
        "run": record.id,
        "t": _ms(record.started),
        "flow": record.flow,
        "configuration": record.configuration,
        "parameters": record.parameters,
        "parent": record.parent,
        "trigger": record.trigger,
    }


def _ended_fields(record: FlowRun) -> dict[str, Any]:
    return {
        "type": "run.ended",
        "run": record.id,
        "t": _ms(record.ended),
        "state": record.state,
        "task_count": record.task_count,
        "error": record.error,
        "reason": record.reason,
    }


def _task_fields(record: TaskRun) -> dict[str, Any]:
    # The state is read first: once it is terminal, the other fields are complete.
    record.told = state = record.state
    attempt = record.attempt
    earlier, told_attempt, record.told_attempt = record.attempts, record.told_attempt, attempt
    task = record.task
    started = int(record.started * 1000)
    fields: dict[str, Any] = {
        "type": "task",
        "run": record.run.id,
        "t": started,
        "index": record.index,
        "name": task.name,
        "state": state,
        "attempt": attempt,
        "started": started,
        "estimate": task.estimated_time,
        "crucial": task.crucial_pass,
    }
    if earlier is not None:
        # Those noted since the last event; one told twice is no harm.
        fields["attempts"] = [one for one in earlier if one["attempt"] >= told_attempt]
    if record.upstream is not None:
        fields["upstream"] = record.upstream
    if record.map_index is not None:
        fields["map_index"] = record.map_index
    if task.weight is not None:
        fields["weight"] = task.weight
    if record.ended is not None and state.is_terminal:
        # The wall clock may have been set back meanwhile.
        fields["ended"] = fields["t"] = max(started, int(record.ended * 1000))
    if record.progress is not None:
        fields["progress"] = round(record.progress * 100, 2)
    if record.result is not None:
        fields["result"] = record.result
    if record.error is not None:
        fields["error"] = record.error
    if record.reason is not None:
        fields["reason"] = record.reason
    return fields


def _ms(seconds: float | None) -> int:
    return int((time() if seconds is None else seconds) * 1000)


def lost_lines(run: str, seq: int, count: int) -> Event:
    """The marker that stands where lines were given up, with the number of the last of them."""
    text = f"… [{count} lines given up: no room to keep them while the backend was away]"
    fields = {
        "type": "log",
        "seq": seq,
        "run": run,
        "t": _ms(None),
        "index": None,
        "stream": "system",
        "level": "WARNING",
        "text": text,
    }
    return Event(seq, MARKER, run, _to_json(fields))
