"""What is worth a notification: runs that failed, whose client fell silent, or that take too long.

Alerts are written in the transaction of what they tell of, so that neither is there without the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Connection

from perfect.server.engine.clock import iso
from perfect.server.engine.context import Context
from perfect.server.engine.statistics import Durations
from perfect.server.store import Transaction, lists, notifications, statistics
from perfect.server.store.records import RunRecord
from perfect.server.webhooks import Webhook
from perfect.states import TaskState

# ms; no run is called slow before, however short its flow's runs usually are
_SHORTEST = 1_000
_MOST = 10_000


def of_end(tx: Transaction, context: Context, run: RunRecord, *, replaced: bool) -> None:
    """A run ended.

    Args:
        tx: the transaction.
        context: the engine's.
        run: as it is now.
        replaced: its end had been inferred before, so it was told already.
    """
    if context.hooks and run.state == TaskState.FAILED and not replaced:
        _tell(tx, context, run, "crashed" if run.inferred else "failed", run.reason)


def overrun(tx: Transaction, context: Context, run_id: str, hook: Webhook, limit: float) -> None:
    """A run takes longer than ``limit`` ms."""
    run = context.book.get(tx.connection, run_id)
    if run is not None and run.state == TaskState.RUNNING:
        _tell(tx, context, run, "overrun", f"running for more than {limit / 1000:.0f} s", hook)


def overrunning(
    connection: Connection, hooks: Sequence[Webhook], now: int
) -> list[tuple[str, Webhook, float]]:
    """Runs that take too long, with the webhook that is to be told and the limit in ms."""
    hooks = [hook for hook in hooks if "overrun" in hook.events]
    if not hooks:
        return []
    running = lists.page(connection, lists.Filter(states=[TaskState.RUNNING.value]), None, _MOST)
    flow_ids = {run.flow_id for run in running if run.flow_id is not None}
    unusual = {
        row.flow_id: Durations(row.samples, row.mean, row.m2, row.runs).unusual
        for row in (statistics.of_flows(connection, flow_ids, "") if flow_ids else ())
    }
    found = []
    for run in running:
        for hook in hooks:
            if run.started is None or not hook.wants("overrun", run.flow_name):
                continue
            limit = unusual.get(run.flow_id or "")
            if hook.minutes is not None:
                limit = hook.minutes * 60_000
            elif limit is not None:
                limit = max(limit, _SHORTEST)
            if limit is not None and now - run.started > limit:
                found.append((run.id, hook, limit))
    return found


def claim(
    tx: Transaction, context: Context, lease_ms: int, limit: int
) -> list[tuple[int, int, str, str]]:
    """Take what is due for delivery: (key, attempt, webhook, body) of each."""
    now = context.clock.now()
    return [
        (row.key, row.attempts + 1, row.hook, row.body)
        for row in notifications.due(tx.connection, now, limit)
        if notifications.claim(tx.connection, row.key, row.attempts, now + lease_ms)
    ]


def delivered(tx: Transaction, context: Context, key: int) -> None:
    """A notification has arrived."""
    now = context.clock.now()
    notifications.settle(tx.connection, key, state=notifications.SENT, error=None, finished=now)


def missed(tx: Transaction, context: Context, key: int, error: str, again_in: float | None) -> None:
    """A notification did not arrive; it is tried again in so many seconds, or with None never."""
    now = context.clock.now()
    if again_in is None:
        notifications.settle(
            tx.connection, key, state=notifications.DEAD, error=error, finished=now
        )
    else:
        due = now + round(again_in * 1000)
        notifications.settle(tx.connection, key, error=error, due=due)


def listed(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """The newest notifications as they are shown; without what was sent, and where to."""
    return [
        {
            "id": row.key,
            "runId": row.run_id,
            "flowName": row.flow_name,
            "webhook": row.hook,
            "event": row.event,
            "state": row.state,
            "attempts": row.attempts,
            "error": row.error,
            "createdAt": iso(row.created),
            "finishedAt": iso(row.finished),
            "nextAttemptAt": iso(row.due) if row.state == notifications.WAITING else None,
        }
        for row in notifications.newest(connection, limit)
    ]


def _tell(
    tx: Transaction,
    context: Context,
    run: RunRecord,
    event: str,
    reason: str | None,
    only: Webhook | None = None,
) -> None:
    now = context.clock.now()
    error = None if run.error is None else orjson.loads(run.error)
    until = now if run.ended is None else run.ended
    facts = {
        "event": event,
        "run": run.id,
        "flow": run.flow_name,
        "client": run.client,
        "state": run.state,
        "reason": reason,
        "error": error.get("message") if isinstance(error, dict) else None,
        "configuration": run.configuration,
        "trigger": run.trigger,
        "started": iso(run.started),
        "ended": iso(run.ended),
        "duration_ms": None if run.started is None else until - run.started,
        "tasks": run.tasks,
        "link": f"{context.public_url}/runs/{run.id}",
    }
    for hook in context.hooks if only is None else (only,):
        if hook.wants(event, run.flow_name):
            notifications.add(
                tx.connection,
                run_id=run.id,
                flow=run.flow_name,
                hook=hook.name,
                event=event,
                body=hook.body(facts),
                now=now,
            )
