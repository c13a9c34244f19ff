"""What code may ask of the run that it is part of."""

from __future__ import annotations

from typing import Any, NamedTuple


class RunInfo(NamedTuple):
    """The run of a flow, as `perfect.current_run` tells it.

    Attributes:
        id: UUID.
        flow: the flow's name.
        configuration: "development", "debug", "release" or free text.
        parameters: what the flow was given, by name, with its defaults: the values themselves; in
            another process, where a task of a graph may run, they are as they are reported.
        trigger: "call", "request" or "schedule".
        tags: the flow's.
        parent: id of the run in which the flow was called, or None.
        started: s since the epoch.
        retry_of: id of the run that this one repeats, or None.
    """

    id: str
    flow: str
    configuration: str
    parameters: dict[str, Any]
    trigger: str
    tags: dict[str, str]
    parent: str | None
    started: float
    retry_of: str | None = None
