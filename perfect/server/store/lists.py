"""Lists of runs, newest first: found by index, so that a page costs the same however many runs there are.

The columns that single out runs each have an index that ends with the place in the list, (at, key). A page is
put together from the beginnings of such ordered searches, one for each combination of flow and state. Where that
would be many searches, or the runs of a tag are asked for that have a certain flow or state, the nearest runs are
looked through first: mostly there are enough among them.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    literal,
    select,
    true,
    tuple_,
)

from perfect.server.store import runs
from perfect.server.store.records import RunRecord
from perfect.server.store.tables import flow, run, run_tag
from perfect.states import TERMINAL

# more searches than this cost more than a look through the nearest runs
_FEW_SEARCHES = 4
_NEAR = 500
_SHORTEST_ID = 4
_TERMINAL = sorted(TERMINAL)

# (at, key)
_Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs are asked for; None asks for any.

    Attributes:
        states: of these states.
        flows: of the flows of these ids.
        client: of this client.
        tag: with this tag, (name, value) or (name, None) for whatever value.
        text: whose flow is in ``text_flows`` or whose id begins with it (at least 4 characters).
        text_flows: ids of the flows that match ``text``.
        since: started at or after; ms since the epoch.
        until: started before; ms since the epoch.
        ended_after: ended after; ms since the epoch.
    """

    states: Collection[str] | None = None
    flows: Collection[str] | None = None
    client: str | None = None
    tag: tuple[str, str | None] | None = None
    text: str | None = None
    text_flows: Collection[str] = ()
    since: int | None = None
    until: int | None = None
    ended_after: int | None = None


def page(
    connection: Connection, wanted: Filter, before: _Place | None, limit: int
) -> list[RunRecord]:
    """Runs that match, newest first.

    Args:
        connection: to read from.
        wanted: which.
        before: (at, key) of the last run of the page before.
        limit: how many at most.
    """
    if wanted.until is not None:
        # keys begin at 1; one bound, because a search by index begins at only one
        until = (wanted.until, 0)
        before = until if before is None else min(before, until)
    places: set[_Place] = set()
    if wanted.text is not None:
        if len(wanted.text) >= _SHORTEST_ID:
            places.update(_of_id(connection, wanted, before))
        matching = wanted.text_flows
        if wanted.flows is not None:
            matching = set(wanted.flows).intersection(matching)
        wanted = replace(wanted, flows=matching)
    places.update(_newest(connection, wanted, before, limit))
    found = runs.by_keys(connection, [key for _, key in heapq.nlargest(limit, places)])
    return sorted(found, key=lambda record: (record.at, record.key), reverse=True)


def finished(
    connection: Connection, flows: Collection[str], since: int, limit: int
) -> list[RunRecord]:
    """The newest terminal runs of these flows that ended after ``since`` (ms since the epoch)."""
    return page(connection, Filter(_TERMINAL, flows, ended_after=since), None, limit)


def _of_id(connection: Connection, wanted: Filter, before: _Place | None) -> list[_Place]:
    """Runs whose id begins with the text; of very many that do, some."""
    text = wanted.text or ""
    query = (
        select(run.c.at, run.c.key, _fits(wanted, *_span(run.c.at, run.c.key, wanted, before)))
        .where(run.c.id >= text, run.c.id < text + "\uffff")
        .order_by(run.c.id)
        .limit(_NEAR)
    )
    return _fitting(connection.execute(query))


def _newest(
    connection: Connection, wanted: Filter, before: _Place | None, limit: int
) -> Iterable[_Place]:
    """The newest runs that match, whatever the text."""
    searches = _searches(connection, wanted)
    if not searches:
        return []
    if wanted.tag is not None or len(searches) > _FEW_SEARCHES:
        # where only a tag is asked for, every run of it matches
        every = searches == [{}] and wanted.ended_after is None
        window = limit if every else max(_NEAR, 4 * limit)
        near = list(connection.execute(_near(wanted, before, window)))
        places = _fitting(near)
        if len(places) >= limit or len(near) < window:
            return places
    query = select(run.c.at, run.c.key).where(
        *_span(run.c.at, run.c.key, wanted, before),
        *(run.c[name] == bindparam(f"of_{name}") for name in searches[0]),
        *_rest(wanted),
    )
    query = query.order_by(run.c.at.desc(), run.c.key.desc()).limit(limit)
    return [
        (row[0], row[1])
        for search in searches
        for row in connection.execute(query, {f"of_{n}": value for n, value in search.items()})
    ]


def _searches(connection: Connection, wanted: Filter) -> list[dict[str, str]]:
    """What columns are to be equal to, in each of the searches that together find the runs."""
    parts: list[list[tuple[str, str]]] = []
    if wanted.flows is not None:
        flows: Iterable[str] = wanted.flows
        if wanted.client is not None:
            # a flow and its runs are of one client; so this need not be asked of the runs
            query = select(flow.c.id).where(
                flow.c.id.in_(wanted.flows), flow.c.client == wanted.client
            )
            flows = connection.execute(query).scalars()
        parts.append([("flow_id", one) for one in flows])
    elif wanted.client is not None:
        parts.append([("client", wanted.client)])
    if wanted.states is not None:
        parts.append([("state", state) for state in set(wanted.states)])
    return [dict(choice) for choice in product(*parts)]


def _near(wanted: Filter, before: _Place | None, window: int) -> Select[Any]:
    """The newest runs, of the tag if there is one: at, key and whether the run matches."""
    if wanted.tag is None:
        at, key = run.c.at, run.c.key
        query = select(at, key, _fits(wanted))
    else:
        at, key = run_tag.c.at, run_tag.c.run
        query = select(at, key, _fits(replace(wanted, tag=None))).where(_is_tag(wanted.tag))
        query = query.join_from(run_tag, run, run.c.key == run_tag.c.run)
    query = query.where(*_span(at, key, wanted, before))
    return query.order_by(at.desc(), key.desc()).limit(window)


def _fitting(rows: Iterable[Any]) -> list[_Place]:
    return [(row[0], row[1]) for row in rows if row[2]]


def _span(at: Any, key: Any, wanted: Filter, before: _Place | None) -> list[ColumnElement[bool]]:
    """Conditions on the place in the list."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        conditions.append(at >= wanted.since)
    if before is not None:
        conditions.append(tuple_(at, key) < tuple_(literal(before[0]), literal(before[1])))
    return conditions


def _fits(wanted: Filter, *more: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a run matches, apart from the text and its place in the list."""
    conditions = [true(), *more, *_rest(wanted)]
    if wanted.flows is not None:
        conditions.append(run.c.flow_id.in_(wanted.flows))
    if wanted.client is not None:
        conditions.append(run.c.client == wanted.client)
    if wanted.states is not None:
        conditions.append(run.c.state.in_(wanted.states))
    return and_(*conditions)


def _rest(wanted: Filter) -> list[ColumnElement[bool]]:
    """The conditions that no index of the runs serves."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.tag is not None:
        conditions.append(_has_tag(wanted.tag))
    if wanted.ended_after is not None:
        conditions.append(run.c.ended > wanted.ended_after)
    return conditions


def _is_tag(tag: tuple[str, str | None]) -> ColumnElement[bool]:
    name, value = tag
    if value is None:
        return run_tag.c.name == name
    return and_(run_tag.c.name == name, run_tag.c.value == value)


def _has_tag(tag: tuple[str, str | None]) -> ColumnElement[bool]:
    # with the time, which is the run's, the key of the tags' table is complete
    found = select(literal(1)).where(
        run_tag.c.run == run.c.key, run_tag.c.at == run.c.at, _is_tag(tag)
    )
    # as a value: looked up per run, where a bare EXISTS may be planned as a join of whole tables
    return found.exists().is_(true())
