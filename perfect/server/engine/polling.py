"""Handing execution requests to pollers: leases, claims, and polls that were abandoned."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson

from perfect.server.engine.context import Context
from perfect.server.engine.dispatch import Request, RequestState, check_claim, choose
from perfect.server.engine.refusals import Unknown, shown
from perfect.server.engine.speaker import Speaker
from perfect.server.store import Transaction, audit, requests, runs, sessions
from perfect.server.store.records import RunRecord
from perfect.states import TaskState

# how many requests are looked at in search of one that this session may have
_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class Offer:
    """A request as it goes to a poller.

    Attributes:
        answer: the JSON of the answer.
        before: the request as it was, to put it back when the poller has gone.
    """

    answer: dict[str, Any]
    before: Request


def offer(
    tx: Transaction,
    context: Context,
    speaker: Speaker,
    *,
    leased: bool,
    others: Collection[str],
    lease_ms: int,
) -> Offer | None:
    """Give a session the next request it may have.

    Args:
        tx: the transaction.
        context: the engine's.
        speaker: whose poll it is.
        leased: the poller claims before it starts; else handed over means started.
        others: flows for which other sessions are waiting.
        lease_ms: how long the lease lasts.
    """
    now = context.clock.now()
    waiting = [
        _request(row) for row in requests.for_session(tx.connection, speaker.session, _LOOKED_AT)
    ]
    request = choose(waiting, speaker.session, others, now, lease_ms)
    if request is None:
        return None
    run = runs.by_key(tx.connection, request.run)
    assert run is not None
    answer: dict[str, Any] = {
        "run_id": run.id,
        "flow_name": run.flow_name,
        "configuration": run.configuration,
        "parameters": None if run.parameters is None else orjson.loads(run.parameters),
    }
    if leased:
        answer["lease"] = str(uuid.uuid4())
        requests.change(
            tx.connection,
            request.key,
            state=RequestState.LEASED.value,
            session=speaker.session,
            lease=answer["lease"],
            lease_until=now + lease_ms,
        )
    else:
        requests.change(
            tx.connection,
            request.key,
            state=RequestState.CLAIMED.value,
            session=speaker.session,
            lease=None,
            lease_until=None,
        )
        _begin(tx, context, run.id, speaker)
    return Offer(answer, request)


def take_back(tx: Transaction, context: Context, offered: Offer) -> None:
    """The poller was gone before the answer could be sent: the request waits again, at its old place."""
    run = context.book.get(tx.connection, offered.answer["run_id"])
    if run is None:
        return
    requests.change(
        tx.connection,
        offered.before.key,
        state=RequestState.QUEUED.value,
        session=offered.before.session,
        lease=None,
        lease_until=None,
    )
    if run.session is not None:
        session, run_id = run.session, run.id
        run.session, run.state, run.started = None, TaskState.PENDING.value, None
        runs.move(tx.connection, run, run.created)
        tx.after_commit(lambda: context.liveness.ended(session, run_id))
    tx.after_commit(lambda: context.call(offered.before.flow_id))


def claim(tx: Transaction, context: Context, speaker: Speaker, run_id: str, lease: str) -> None:
    """A session is about to execute the run whose lease it holds.

    Raises:
        Unknown: there is no such run.
        Conflict: the lease is not this session's, or not valid any more.
    """
    run = context.book.get(tx.connection, run_id)
    if run is None:
        raise Unknown(f"there is no run {shown(run_id)}")
    row = requests.by_run(tx.connection, run_id)
    request = None if row is None else _request(row)
    first = check_claim(request, speaker.session, lease, ended=bool(run.settled))
    if first and request is not None:
        requests.change(tx.connection, request.key, state=RequestState.CLAIMED.value)
        sessions.ensure(tx.connection, speaker.session, speaker.client, True, context.clock.now())
        _begin(tx, context, run_id, speaker)


def _begin(tx: Transaction, context: Context, run_id: str, speaker: Speaker) -> RunRecord:
    """The run belongs to that session from now on, and has started."""
    run = context.book.get(tx.connection, run_id)
    assert run is not None
    run.session = speaker.session
    run.state = TaskState.RUNNING.value
    run.started = run.modified = context.clock.now()
    runs.move(tx.connection, run, run.started)
    audit.note(tx.connection, run.started, run_id, speaker.session, "dispatched")
    tx.after_commit(lambda: context.liveness.started(speaker.session, run_id))
    return run


def _request(row: Any) -> Request:
    return Request(
        row.key, row.run, row.flow_id, row.state, row.session, row.lease, row.lease_until
    )
