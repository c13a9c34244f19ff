"""What a transaction changed, noted only while somebody watches.

The queries that write runs, tasks and flows say so here. While nobody watches, that is one look into a dictionary
per statement; what is noted is ids, and whoever watches reads the rows, later and elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection

_PLACE = "perfect.changes"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What other backends watch, as they have said.

    Attributes:
        until: seconds of the clock that never jumps, when that is no longer true unless they say it again.
        runs: keys of the runs of which every task is watched.
    """

    until: float = 0.0
    runs: frozenset[int] = frozenset()

    @property
    def on(self) -> bool:
        """Whether somebody watches there."""
        return time.monotonic() < self.until


class Watch:
    """What is being watched: set by who watches, read by the writer.

    Attributes:
        on: somebody watches.
        runs: keys of the runs of which every task is watched.
        elsewhere: what is watched at other backends on this database.
    """

    def __init__(self) -> None:
        self.on = False
        self.runs: frozenset[int] = frozenset()
        self.elsewhere = Elsewhere()

    @property
    def every_run(self) -> frozenset[int]:
        """Keys of the runs of which every task is watched, wherever that is."""
        return self.runs | self.elsewhere.runs if self.elsewhere.on else self.runs


@dataclass(slots=True)
class Changes:
    """Ids of what changed.

    Attributes:
        watch: what is being watched.
        runs: keys of runs.
        tasks: positions of tasks by the key of their run, of the watched runs.
        gone: ids of runs that were removed.
        others: (kind, id) of anything else, like ("flow", id).
    """

    watch: Watch
    runs: set[int] = field(default_factory=set)
    tasks: dict[int, set[int]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    others: set[tuple[str, str]] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.runs or self.tasks or self.gone or self.others)

    def add(self, other: Changes) -> None:
        """These happened as well."""
        self.runs |= other.runs
        self.gone |= other.gone
        self.others |= other.others
        for key, found in other.tasks.items():
            self.tasks.setdefault(key, set()).update(found)


def begin(connection: Connection, watch: Watch) -> Changes | None:
    """Note what is changed through that connection from now on, if somebody watches."""
    changes = Changes(watch) if watch.on or watch.elsewhere.on else None
    connection.info[_PLACE] = changes
    return changes


def run(connection: Connection, key: int) -> None:
    """The run of that key changed."""
    changes: Changes | None = connection.info.get(_PLACE)
    if changes is not None:
        changes.runs.add(key)


def gone(connection: Connection, run_id: str) -> None:
    """The run of that id was removed."""
    changes: Changes | None = connection.info.get(_PLACE)
    if changes is not None:
        changes.gone.add(run_id)


def other(connection: Connection, kind: str, its_id: str) -> None:
    """A flow or a schedule changed, was added or removed."""
    changes: Changes | None = connection.info.get(_PLACE)
    if changes is not None:
        changes.others.add((kind, its_id))


def noting(connection: Connection) -> bool:
    """Whether somebody watches anything."""
    return connection.info.get(_PLACE) is not None


def watching(connection: Connection, run_key: int) -> bool:
    """Whether somebody watches the tasks of that run."""
    changes: Changes | None = connection.info.get(_PLACE)
    return changes is not None and run_key in changes.watch.every_run


def tasks(connection: Connection, found: Iterable[tuple[int, int]]) -> None:
    """The tasks at these (run key, position) changed."""
    changes: Changes | None = connection.info.get(_PLACE)
    if changes is None:
        return
    watched = changes.watch.every_run
    if not watched:
        return
    for key, idx in found:
        if key in watched:
            changes.tasks.setdefault(key, set()).add(idx)
