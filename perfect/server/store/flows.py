"""Queries on flows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import astuple, fields

from sqlalchemy import Connection, bindparam, select

from perfect.server.store import changes
from perfect.server.store.records import FlowRecord
from perfect.server.store.statements import Prepared
from perfect.server.store.tables import flow

_COLUMNS = [flow.c[f.name] for f in fields(FlowRecord)]
_NAMES = [f.name for f in fields(FlowRecord)]
_BY_ID = Prepared(select(*_COLUMNS).where(flow.c.id == bindparam("of_id")), ("of_id",))
_BY_NAME = select(*_COLUMNS).where(
    flow.c.client == bindparam("of_client"), flow.c.name == bindparam("of_name")
)


def by_id(connection: Connection, flow_id: str) -> FlowRecord | None:
    """The flow of that id."""
    row = _BY_ID.first(connection, flow_id)
    return None if row is None else FlowRecord(*row)


def by_name(connection: Connection, client: str, name: str) -> FlowRecord | None:
    """The flow that this client registered under that name."""
    row = connection.execute(_BY_NAME, {"of_client": client, "of_name": name}).first()
    return None if row is None else FlowRecord(*row)


def ids_named(connection: Connection, name: str) -> list[str]:
    """Ids of the flows of that name or id, of whatever client."""
    query = select(flow.c.id).where((flow.c.name == name) | (flow.c.id == name))
    return list(connection.execute(query).scalars())


def ids_matching(connection: Connection, text: str) -> list[str]:
    """Ids of the flows whose name contains that text, in any letter case."""
    query = select(flow.c.id).where(flow.c.name.icontains(text, autoescape=True))
    return list(connection.execute(query).scalars())


def listed(connection: Connection, ids: Collection[str] | None = None) -> list[FlowRecord]:
    """All flows, or those of these ids, by name."""
    query = select(*_COLUMNS).order_by(flow.c.name, flow.c.client)
    if ids is not None:
        query = query.where(flow.c.id.in_(ids))
    return [FlowRecord(*row) for row in connection.execute(query)]


def insert(connection: Connection, record: FlowRecord) -> None:
    """Keep a new flow."""
    connection.execute(flow.insert(), dict(zip(_NAMES, astuple(record), strict=True)))
    changes.other(connection, "flow", record.id)


def save(connection: Connection, record: FlowRecord) -> None:
    """Keep a flow that changed."""
    values = dict(zip(_NAMES, astuple(record), strict=True))
    connection.execute(flow.update().where(flow.c.id == record.id).values(values))
    changes.other(connection, "flow", record.id)
