"""The library of flows, and the runs that are made of them."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
from sqlalchemy import Connection

from perfect.server.engine import book, schedules
from perfect.server.engine.context import Context
from perfect.server.engine.definitions import FlowDefinition
from perfect.server.engine.parameters import check_values, takes_nothing
from perfect.server.engine.refusals import Demanding, Invalid, Unknown, shown
from perfect.server.engine.speaker import Speaker
from perfect.server.store import Transaction, flows, queue, requests, runs, sessions, tasks
from perfect.server.settings import Limits
from perfect.server.store.records import FlowRecord, RunRecord
from perfect.states import TaskState


def register(
    tx: Transaction,
    context: Context,
    speaker: Speaker,
    definition: FlowDefinition,
    *,
    by_run: bool = False,
) -> FlowRecord:
    """Enter a flow in the library, or bring the entry of that name and client up to date.

    Args:
        tx: the transaction.
        context: the engine's.
        speaker: whose flow it is.
        definition: what is said of it.
        by_run: it came with a run, which may be long over: a flow that is known keeps its schedule.
    """
    now = context.clock.now()
    fields: dict[str, str | None] = {
        "description": definition.description,
        "tags": _json(definition.tags),
        "tasks": _json(
            [
                {
                    "name": task.name,
                    "description": task.description,
                    "weight": task.weight,
                    "estimatedTime": task.estimate,
                    "crucialPass": task.crucial,
                }
                for task in definition.tasks
            ]
        ),
        "parameters": _json(definition.parameters),
        "edges": _json(definition.edges),
        "schedule": (None if definition.schedule is None else _json(definition.schedule.to_wire())),
    }
    resumes = int(definition.resumes)
    record = flows.by_name(tx.connection, speaker.client, definition.name)
    before = None if record is None else record.schedule
    keeps_schedule = by_run and record is not None
    if keeps_schedule:
        fields["schedule"] = before
    if record is None:
        record = FlowRecord(
            id=str(uuid.uuid4()),
            client=speaker.client,
            name=definition.name,
            created=now,
            updated=now,
            resumes=resumes,
            **fields,  # type: ignore[arg-type]  # tags and tasks are never None
        )
        flows.insert(tx.connection, record)
    elif record.resumes != resumes or any(
        getattr(record, name) != value for name, value in fields.items()
    ):
        record.resumes = resumes
        for name, value in fields.items():
            setattr(record, name, value)
        record.updated = now
        flows.save(tx.connection, record)
    if not keeps_schedule and (before is not None or definition.schedule is not None):
        schedules.follow(tx, context, record, definition.schedule)
    if sessions.link_flow(tx.connection, speaker.session, record.id):
        waiting = requests.are_waiting(tx.connection, record.id)
        tx.after_commit(lambda: context.learn(speaker.session, record.id, waiting))
    return record


def flow_of_id(connection: Connection, flow_id: str) -> FlowRecord:
    """The flow of that id.

    Raises:
        Unknown: there is none.
    """
    record = flows.by_id(connection, flow_id)
    if record is None:
        raise Unknown(f"there is no flow {shown(flow_id)}")
    return record


def new_run(
    tx: Transaction,
    context: Context,
    flow: FlowRecord,
    *,
    session: str | None,
    trigger: str,
    configuration: str,
    parameters: str | None = None,
    retry_of: str | None = None,
) -> RunRecord:
    """A run of a flow with its predefined tasks.

    Args:
        tx: the transaction.
        context: the engine's.
        flow: of that flow.
        session: who executes it from now on; None while nobody does.
        trigger: "call", "request" or "schedule".
        configuration: name of the configuration.
        parameters: JSON text, or None.
        retry_of: id of the run that it repeats, or None.
    """
    now = context.clock.now()
    record = RunRecord.new(
        str(uuid.uuid4()),
        flow.client,
        session,
        now=now,
        started=None if session is None else now,
        flow=flow,
        trigger=trigger,
        configuration=configuration,
        parameters=parameters,
        retry_of=retry_of,
    )
    # what it announces comes first, so that the run is written once
    record.codes = bytearray()
    announced = predefined(tx.connection, record, flow)
    runs.insert_new(tx.connection, record, orjson.loads(flow.tags))
    context.book.add(record)
    rows = [(record.key, *row[1:]) for row in announced]
    tasks.insert_many(tx.connection, rows)
    context.tally.tasks += len(rows)
    context.tally.started += 1
    return record


def predefined(connection: Connection, run: RunRecord, flow: FlowRecord) -> list[tuple[Any, ...]]:
    """Rows for the tasks that a flow announces and its run does not have yet; enters them in the run."""
    codes = book.codes(connection, run)
    learned = book.learned(connection, run)
    upstream = None if flow.edges is None else _upstream(orjson.loads(flow.edges))
    rows = []
    for index, task in enumerate(orjson.loads(flow.tasks)):
        if index >= len(codes):
            name = task["name"]
            rows.append(
                pending(
                    run.key,
                    index,
                    name,
                    learned.get(name, task["estimatedTime"]),
                    task["weight"],
                    task["crucialPass"],
                    None if upstream is None else upstream.get(index, "[]"),
                )
            )
            codes.append(book.PENDING)
    run.tasks = len(codes)
    return rows


def pending(
    run_key: int,
    index: int,
    name: str,
    estimate: int,
    weight: float | None = None,
    crucial: bool = True,
    upstream: str | None = None,
) -> tuple[Any, ...]:
    """The row of a task that has not begun; ``estimate`` in ms, ``upstream`` JSON text."""
    return (
        *(run_key, index, name, TaskState.PENDING.value, 1),
        *(None, None, None),
        *(estimate, weight, int(crucial)),
        *(None, None, upstream, None, 0, 0),
    )


def _upstream(edges: list[list[int]]) -> dict[int, str]:
    """What each task of a graph comes after, as JSON text by position."""
    before: dict[int, set[int]] = {}
    for first, then in edges:
        before.setdefault(then, set()).add(first)
    return {index: orjson.dumps(sorted(found)).decode() for index, found in before.items()}


def start_by_client(
    tx: Transaction, context: Context, speaker: Speaker, flow_id: str, configuration: str
) -> str:
    """A run that the client is about to execute itself; returns its id."""
    flow = flow_of_id(tx.connection, flow_id)
    run = new_run(
        tx,
        context,
        flow,
        session=speaker.session,
        trigger="call",
        configuration=configuration,
    )
    tx.after_commit(lambda: context.liveness.started(speaker.session, run.id))
    return run.id


def checked_parameters(
    connection: Connection, flow_id: str, given: Any, limits: Limits
) -> str | None:
    """The values that a run of a flow is asked for with, as JSON text; not for the writer's thread, it takes time.

    Raises:
        Unknown: there is no such flow.
        Invalid: they are not what the flow takes; the detail says which field, and why.
    """
    return check_values(flow_of_id(connection, flow_id).parameters, given, limits)


def check_schedule(definition: FlowDefinition, limits: Limits) -> None:
    """See whether a flow can be run with what its schedule gives; blocks likewise.

    Raises:
        Invalid: it can't; it names the parameter.
    """
    if definition.schedule is None:
        return
    given = schedules.text_of(definition.schedule)
    if problem := schedules.unfit(_json(definition.parameters), given, limits):
        raise Invalid(f"schedule.{problem}")


def trigger(
    tx: Transaction,
    context: Context,
    flow_id: str,
    configuration: str,
    parameters: str | None = None,
    *,
    trigger: str = "request",
) -> str:
    """A run for which a client is to be found, asked for by a "request" or a "schedule"; returns its id."""
    return _trigger(
        tx, context, flow_of_id(tx.connection, flow_id), configuration, parameters, trigger
    )


def trigger_plainly(tx: Transaction, context: Context, flow_id: str, configuration: str) -> str:
    """As `trigger`, without values, of a flow that goes without.

    Raises:
        Unknown: there is no such flow.
        Demanding: whether it goes without is not seen at a glance.
    """
    flow = flow_of_id(tx.connection, flow_id)
    if flow.parameters is not None and not takes_nothing(flow.parameters):
        raise Demanding
    return _trigger(tx, context, flow, configuration, None, "request")


def _trigger(
    tx: Transaction,
    context: Context,
    flow: FlowRecord,
    configuration: str,
    parameters: str | None,
    trigger: str,
) -> str:
    run = new_run(
        tx,
        context,
        flow,
        session=None,
        trigger=trigger,
        configuration=configuration,
        parameters=parameters,
    )
    ask_for(tx, context, run, flow.id)
    return run.id


def ask_for(tx: Transaction, context: Context, run: RunRecord, flow_id: str) -> None:
    """Queue the request for a client that executes a run."""
    requests.insert(tx.connection, run.key, flow_id, run.created)
    queue.enter(tx.connection, flow_id, lonely=flow_id not in context.present)
    if not context.hand(tx, flow_id, run.id):
        tx.after_commit(lambda: context.call(flow_id))


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
