"""Attempts of a task that ended and were followed by another one, as a client tells them."""

from __future__ import annotations

from typing import Any

from perfect.server.engine import values
from perfect.server.engine.refusals import Invalid, shown
from perfect.server.settings import Limits
from perfect.server.store.attempts import MOST

_LONGEST_WORKER = 1_000


def rows(run_key: int, index: int, told: Any, limits: Limits) -> list[tuple[Any, ...]]:
    """Rows of the newest attempts in the list.

    Args:
        run_key: of that run.
        index: of the task at that index.
        told: ``[{attempt, started, ended, error, reason, worker}]`` with times in ms since the epoch.
        limits: of the backend.

    Raises:
        Invalid: naming the field that is wrong.
    """
    if told.__class__ is not list:
        raise Invalid(f"attempts={shown(told)}: is not a list")
    found = [(run_key, index, *_attempt(attempt, limits)) for attempt in told]
    return sorted(found, key=lambda row: row[2])[-MOST:]


def _attempt(told: Any, limits: Limits) -> tuple[Any, ...]:
    get = values.mapping("attempts", told).get
    number = get("attempt")
    if number.__class__ is not int or not 0 < number <= values.MAX_ATTEMPT:
        raise Invalid(f"attempts.attempt={shown(number)}: is not a positive integer")
    started, ended, error, reason, worker = map(
        get, ("started", "ended", "error", "reason", "worker")
    )
    return (
        number,
        None if started is None else values.moment("attempts.started", started),
        None if ended is None else values.moment("attempts.ended", ended),
        None if error is None else values.error("attempts.error", error, limits.depth),
        None if reason is None else values.text("attempts.reason", reason, values.LONGEST_REASON),
        None if worker is None else values.text("attempts.worker", worker, _LONGEST_WORKER),
    )
