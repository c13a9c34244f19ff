"""``>>`` and ``<<`` between tasks: who comes after whom, kept on the tasks until a DAG asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfect.context import find_scope
from perfect.errors import GraphError
from perfect.tasks import Task

# The tasks made by `perfect.flowkit.task` since the registry was cleared, in order (as keys).
registered: dict[Task[..., Any], None] = {}


class Wires:
    """The neighbours of a task, in the order of the wiring."""

    __slots__ = ("before", "after")

    def __init__(self) -> None:
        self.before: dict[Task[..., Any], None] = {}
        self.after: dict[Task[..., Any], None] = {}


def wires_of(task: Task[..., Any]) -> Wires:
    """The neighbours of a task; of one that was never wired, none."""
    wires: Wires | None = task.__dict__.get("wires")
    if wires is None:
        wires = task.__dict__["wires"] = Wires()
    return wires


def connect(before: Any, after: Any) -> None:
    """Let `after` come after `before`; each a task or a list of tasks.

    While a graph flow is built, the edges are that flow's.

    Raises:
        GraphError: one of them is neither.
    """
    scope = find_scope()
    flow = None if scope is None else scope.flow
    for early in _each(before):
        for late in _each(after):
            if flow is not None:
                flow.add_edge(early, late)
            elif not (isinstance(early, Task) and isinstance(late, Task)):
                wrong = late if isinstance(early, Task) else early
                raise GraphError(">>", wrong, "is no task")
            else:
                wires_of(early).after[late] = None
                wires_of(late).before[early] = None


def clear() -> None:
    """Forget the registered tasks, and every wire of theirs and of the tasks wired to them."""
    for task in connected(list(registered)):
        task.__dict__.pop("wires", None)
    registered.clear()


def connected(tasks: list[Task[..., Any]]) -> list[Task[..., Any]]:
    """The tasks, and all that are wired to them over any number of wires, in order of finding."""
    found = dict.fromkeys(tasks)
    waiting = list(found)
    for task in waiting:  # grows while it is gone through
        wires = wires_of(task)
        for other in (*wires.before, *wires.after):
            if other not in found:
                found[other] = None
                waiting.append(other)
    return list(found)


def _each(side: Any) -> Iterator[Any]:
    if isinstance(side, (list, tuple, set, frozenset)):
        yield from side
    else:
        yield side
