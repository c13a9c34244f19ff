"""Handing execution requests to pollers: leases, claims, and polls that were abandoned."""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterator
from typing import Any

import orjson

from perfect.server.engine.context import Context
from perfect.server.engine.dispatch import Offer, Request, RequestState, check_claim, choose
from perfect.server.engine.refusals import Conflict, Unknown, shown
from perfect.server.engine.speaker import Speaker
from perfect.server.store import Transaction, audit, queue, requests, runs
from perfect.server.store.records import RunRecord
from perfect.states import TaskState

# how many requests of a flow are looked at in search of one that this session may have
_LOOKED_AT = 20
# how many flows are looked up at a time
_FLOWS = 8


def offer(
    tx: Transaction,
    context: Context,
    session: str,
    *,
    leased: bool,
    others: Container[str],
    lease_ms: int,
    most_offers: int,
) -> Offer | None:
    """Give a session the next request it may have.

    Flows take turns, so that a long queue of one does not hold up another; within a flow the oldest request comes
    first.

    Args:
        tx: the transaction.
        context: the engine's.
        session: whose poll it is.
        leased: the poller claims before it starts; else handed over means started.
        others: flows for which other sessions are waiting.
        lease_ms: how long the lease lasts.
        most_offers: how often a request is offered.
    """
    now = context.clock.now()
    for waiting in _in_turn(tx, session):
        request = choose(waiting, session, others, now, lease_ms, most_offers)
        if request is not None:
            break
    else:
        return None
    run = context.book.by_key(tx.connection, request.run)
    assert run is not None
    answer: dict[str, Any] = {
        "run_id": run.id,
        "flow_name": run.flow_name,
        "configuration": run.configuration,
        "parameters": None if run.parameters is None else orjson.loads(run.parameters),
        "retry_of": run.retry_of,
        "trigger": run.trigger,
    }
    if leased:
        answer["lease"] = str(uuid.uuid4())
        requests.change(
            tx.connection,
            request.key,
            state=RequestState.LEASED.value,
            session=session,
            lease=answer["lease"],
            lease_until=now + lease_ms,
            offers=request.offers + 1,
        )
    else:
        requests.change(
            tx.connection,
            request.key,
            state=RequestState.CLAIMED.value,
            session=session,
            lease=None,
            lease_until=None,
        )
        _begin(tx, context, run.id, session)
    queue.served(tx.connection, request.flow_id)
    return Offer(answer, request)


def _in_turn(tx: Transaction, session: str) -> Iterator[list[Request]]:
    """The requests of each flow that the session can run, in the order of their turns."""
    after = -1
    while flows := queue.next_flows(tx.connection, session, after, _FLOWS):
        for flow_id, turn in flows:
            after = turn
            rows = requests.of_flow(tx.connection, flow_id, _LOOKED_AT)
            if rows:
                yield [_request(row) for row in rows]
            else:
                queue.drop(tx.connection, flow_id)


def take_back(tx: Transaction, context: Context, offered: Offer) -> None:
    """The poller was gone before the answer could be sent: the request waits again, at its old place."""
    run = context.book.get(tx.connection, offered.answer["run_id"])
    if run is None or run.settled:  # cancelled meanwhile
        return
    row = requests.by_run(tx.connection, run.id)
    if row is None or row.lease != offered.answer.get("lease"):  # lapsed, and offered again
        return
    requests.change(
        tx.connection,
        offered.before.key,
        state=RequestState.QUEUED.value,
        session=offered.before.session,
        lease=None,
        lease_until=None,
        offers=offered.before.offers,
    )
    queue.enter(tx.connection, offered.before.flow_id, lonely=False)
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
    if run.settled and run.session is None:
        raise Conflict(f"the run is already {run.state}: {run.reason}")
    row = requests.by_run(tx.connection, run_id)
    request = None if row is None else _request(row)
    first = check_claim(request, speaker.session, lease, ended=bool(run.settled))
    if first and request is not None:
        requests.change(tx.connection, request.key, state=RequestState.CLAIMED.value)
        _begin(tx, context, run_id, speaker.session)


def _begin(tx: Transaction, context: Context, run_id: str, session: str) -> RunRecord:
    """The run belongs to that session from now on, and has started."""
    run = context.book.get(tx.connection, run_id)
    assert run is not None
    run.session = session
    run.state = TaskState.RUNNING.value
    run.started = run.modified = context.clock.now()
    runs.move(tx.connection, run, run.started)
    audit.note(tx.connection, run.started, run_id, session, "dispatched")
    tx.after_commit(lambda: context.liveness.started(session, run_id))
    return run


def _request(row: Any) -> Request:
    return Request(
        *(row.key, row.run, row.flow_id, row.state),
        *(row.session, row.lease, row.lease_until, row.offers),
    )
