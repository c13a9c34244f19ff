"""Execution requests that nobody takes: given up when they were offered too often or have waited too long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from perfect.server.engine import endings
from perfect.server.engine.context import Context
from perfect.server.store import Transaction, queue, requests, runs
from perfect.states import TaskState

# of the newest runs that wait, so many are told anew when their flow's client comes or goes
_SHOWN = 100


class Found(NamedTuple):
    """What a look at the requests has found.

    Attributes:
        exhausted: runs whose requests were offered too often.
        older: runs whose requests have waited too long.
        lapsed: flow and last session of each lease that has ended.
        flows: those with requests, and whether they are noted as having no client.
        missing: those with requests that have no turn.
    """

    exhausted: list[str]
    older: list[str]
    lapsed: list[tuple[str, str | None]]
    flows: dict[str, bool]
    missing: list[str]


def exhausted(tx: Transaction, context: Context, run_id: str, offers: int) -> None:
    """A request was offered so often, and never claimed."""
    _fail(tx, context, run_id, f"it was offered {offers} times, and no client claimed it", offers)


def expired(tx: Transaction, context: Context, run_id: str, seconds: float) -> None:
    """A request has waited for too long."""
    _fail(tx, context, run_id, f"no client has taken it within {_lasting(seconds)}", 0)


def mark(
    tx: Transaction, context: Context, lonely: Mapping[str, bool], missing: Sequence[str]
) -> None:
    """Note which flows no client has, and give those a turn that have none."""
    for flow_id in missing:
        queue.enter(tx.connection, flow_id, lonely=False)
    for value in (True, False):
        flows = [flow_id for flow_id, one in lonely.items() if one is value]
        if flows:
            queue.mark(tx.connection, flows, value)
    for key in queue.runs_waiting(tx.connection, list(lonely), _SHOWN) if lonely else ():
        run = runs.by_key(tx.connection, key)
        if run is not None and (run := context.book.get(tx.connection, run.id)) is not None:
            runs.save(tx.connection, run)  # whoever watches it is told


def _fail(tx: Transaction, context: Context, run_id: str, reason: str, offers: int) -> None:
    run = context.book.get(tx.connection, run_id)
    row = requests.by_run(tx.connection, run_id)
    # it may have been claimed, or offered again, since it was found
    if run is None or run.settled or run.session is not None or row is None:
        return
    if row.offers < offers or row.state == "leased" and row.lease_until > context.clock.now():
        return
    endings.end(tx, context, run, TaskState.FAILED, context.clock.now(), reason=reason)


def _lasting(seconds: float) -> str:
    for name, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {name}"
    return f"{seconds:g} s"
