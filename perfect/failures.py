"""What an exception means for a task or run, and how it is told."""

from __future__ import annotations

import os
import traceback
from typing import Any

from perfect.jsonable import snapshot
from perfect.signals import RunCancelled, Terminated
from perfect.states import TaskState

# The frames of these modules, between a flow and its tasks, say nothing about the user's error.
_HERE = os.path.dirname(__file__)
_OWN_FOLDERS = {_HERE, os.path.join(_HERE, "graph"), os.path.join(_HERE, "graph", "executors")}
LONGEST_TRACEBACK = 60_000  # characters


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as JSON data, its traceback without the frames of perfect's own.

    Returns:
        ``{"type": …, "message": …, "traceback": …}``
    """
    # Raised in another process and told there: here it has no traceback, and perhaps another type.
    told_there: dict[str, Any] | None = error.__dict__.get("__perfect_told__")
    if told_there is not None:
        return told_there
    try:
        message = str(error)
        told = traceback.TracebackException.from_exception(error)
        _without_own_frames(told)
        text = "".join(told.format())
    except Exception as another:  # the user's __str__ or __repr__ raises
        message = f"<{type(another).__name__} in its __str__>"
        text = ""
    facts = snapshot(
        {"type": type(error).__name__, "message": message, "traceback": text},
        longest=LONGEST_TRACEBACK,
    )
    # At the end of the stack there is no room for a snapshot either.
    if not isinstance(facts, dict):
        return {"type": type(error).__name__, "message": "too deep to describe", "traceback": ""}
    return facts


def _without_own_frames(told: traceback.TracebackException | None) -> None:
    seen: set[int] = set()
    while told is not None and id(told) not in seen:
        seen.add(id(told))
        kept = [
            frame for frame in told.stack if os.path.dirname(frame.filename) not in _OWN_FOLDERS
        ]
        told.stack = traceback.StackSummary.from_list(kept)
        told = told.__cause__ or told.__context__


def state_after(error: BaseException) -> TaskState:
    """CANCELLED for an interruption from outside, FAILED for everything else."""
    outside = isinstance(error, (KeyboardInterrupt, RunCancelled, Terminated)) or (
        # asyncio's, recognised without importing asyncio (25 ms)
        not isinstance(error, Exception)
        and type(error).__name__ == "CancelledError"
    )
    return TaskState.CANCELLED if outside else TaskState.FAILED
