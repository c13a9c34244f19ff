"""Rows as objects, where the engine works on them one at a time."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class FlowRecord:
    """A row of ``flow``; ``tags``, ``tasks``, ``parameters``, ``edges`` and ``schedule`` are JSON text."""

    id: str
    client: str
    name: str
    description: str
    tags: str
    tasks: str
    parameters: str | None
    edges: str | None
    schedule: str | None
    created: int
    updated: int


@dataclass(slots=True)
class RunRecord:
    """A row of ``run``; ``parameters``, ``tags`` and ``error`` are JSON text, times ms since the epoch.

    Attributes:
        codes: while the run is being written, one byte for the state of each task (see the engine); None
            until it is needed.
        learned: estimates in ms by task name that replace the client's, likewise.
    """

    key: int
    id: str
    flow_id: str | None
    flow_name: str
    client: str
    session: str | None
    state: str
    trigger: str
    configuration: str
    parameters: str | None
    parent: str | None
    tags: str
    at: int
    created: int
    started: int | None
    ended: int | None
    modified: int
    progress: float
    inferred: int
    settled: int
    cancel: int | None
    reason: str | None
    error: str | None
    tasks: int
    lines: int
    codes: bytearray | None = field(default=None, compare=False, repr=False)
    learned: dict[str, int] | None = field(default=None, compare=False, repr=False)
