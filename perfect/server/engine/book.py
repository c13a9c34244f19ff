"""Runs that are being written, remembered between requests so that an event costs no query."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row

from perfect.server.engine.statistics import Durations
from perfect.server.store import runs, statistics, tasks
from perfect.server.store.records import RunRecord
from perfect.states import TERMINAL, TaskState

# the state of a task in one byte: open, ended as reported, or ended as inferred from silence
PENDING, RUNNING, DONE, INFERRED = range(4)
CODES = {
    state.value: (DONE if state in TERMINAL else PENDING if state is TaskState.PENDING else RUNNING)
    for state in TaskState
}

_REMEMBERED = 512


class RunBook:
    """A small cache of run rows. To be used on the writer's thread only, inside a transaction.

    Whatever a job changes in a record it must also save in the same transaction; ``forget`` is called when a
    transaction is rolled back.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[str, RunRecord] = OrderedDict()
        self._newest: RunRecord | None = None

    def get(self, connection: Connection, run_id: str) -> RunRecord | None:
        """The run of that id."""
        record = self._runs.get(run_id)
        if record is None:
            record = runs.by_id(connection, run_id)
            if record is not None:
                self.add(record)
        else:
            self._runs.move_to_end(run_id)
        return record

    def by_key(self, connection: Connection, key: int) -> RunRecord | None:
        """The run of that key; not asked for where it is the one that was added last."""
        newest = self._newest
        return newest if newest is not None and newest.key == key else runs.by_key(connection, key)

    def add(self, record: RunRecord) -> None:
        """Remember a run."""
        self._newest = record
        self._runs[record.id] = record
        if len(self._runs) > _REMEMBERED:
            self._runs.popitem(last=False)

    def drop(self, run_id: str) -> None:
        """That run is gone, or changed beneath us."""
        self._newest = None
        self._runs.pop(run_id, None)

    def forget(self) -> None:
        """Remember nothing."""
        self._newest = None
        self._runs.clear()


def codes(connection: Connection, record: RunRecord) -> bytearray:
    """The states of a run's tasks, one byte each."""
    if record.codes is None:
        record.codes = bytearray(record.tasks)
        for idx, state, inferred in tasks.states(connection, record.key):
            record.codes[idx] = INFERRED if inferred else CODES[state]
    return record.codes


def learned(connection: Connection, record: RunRecord) -> dict[str, int]:
    """Estimates in ms by task name that replace the client's in this run."""
    if record.learned is None:
        record.learned = estimates(connection, record.flow_id) if record.flow_id else {}
    return record.learned


def estimates(connection: Connection, flow_id: str) -> dict[str, int]:
    """Estimates in ms by task name that were learned from earlier runs of a flow."""
    return estimates_from(statistics.of_flow(connection, flow_id))


def estimates_from(rows: Iterable[Row[Any]]) -> dict[str, int]:
    """Estimates in ms by task name, from everything known about a flow."""
    found = {}
    for row in rows:
        estimate = Durations(row.samples, row.mean, row.m2, row.runs).learned
        if estimate is not None:
            found[row.task] = estimate
    return found
