"""Rows as objects, where the engine works on them one at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from perfect.states import TaskState


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for something.

    Attributes:
        kind: "full" or "read", as the token is; "open" where none is needed; "none" for one who was refused.
        peer: address the request came from.
        login: which session of the page, as the audit table shows it; None without one.
    """

    kind: str
    peer: str
    login: str | None = None


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
    resumes: int = 0


@dataclass(slots=True)
class ScheduleRecord:
    """A row of ``schedule``; ``parameters`` is JSON text, times are ms since the epoch."""

    id: str
    flow_id: str
    expression: str
    zone: str
    catchup: str
    overlap: str
    configuration: str
    parameters: str | None
    paused: int
    created: int
    updated: int
    cursor: int
    next: int | None


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
    retry_of: str | None
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

    @classmethod
    def new(
        cls,
        run_id: str,
        client: str,
        session: str | None,
        *,
        now: int,
        started: int | None,
        flow: FlowRecord | None = None,
        trigger: str = "call",
        configuration: str = "",
        parameters: str | None = None,
        retry_of: str | None = None,
    ) -> RunRecord:
        """A run that is not stored yet, without tasks.

        Args:
            run_id: its id.
            client: whose flow it is of.
            session: who executes it; None while nobody does.
            now: ms since the epoch.
            started: likewise; None while it is PENDING, else it is RUNNING.
            flow: of that flow; None while it is not known.
            trigger: "call", "request" or "schedule".
            configuration: name of the configuration.
            parameters: JSON text, or None.
            retry_of: id of the run that it repeats, or None.
        """
        return cls(
            key=0,
            id=run_id,
            flow_id=None if flow is None else flow.id,
            flow_name="" if flow is None else flow.name,
            client=client,
            session=session,
            state=(TaskState.PENDING if started is None else TaskState.RUNNING).value,
            trigger=trigger,
            configuration=configuration,
            parameters=parameters,
            parent=None,
            retry_of=retry_of,
            tags="{}" if flow is None else flow.tags,
            at=now if started is None else started,
            created=now,
            started=started,
            ended=None,
            modified=now,
            progress=0.0,
            inferred=0,
            settled=0,
            cancel=None,
            reason=None,
            error=None,
            tasks=0,
            lines=0,
            codes=bytearray(),
        )
