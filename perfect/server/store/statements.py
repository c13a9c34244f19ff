"""Statements of the hot path, compiled once: SQLAlchemy writes the SQL, the driver runs it on plain tuples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(dialect: Dialect, table: Table) -> Any:
    """An INSERT of that dialect that knows ON CONFLICT."""
    return (postgresql if dialect.name == "postgresql" else sqlite).insert(table)


@cache
def _by_position() -> Dialect:
    """psycopg's dialect, which otherwise names parameters."""
    engine = sa.create_mock_engine(
        "postgresql+psycopg://", executor=lambda *_: None, paramstyle="format"
    )
    return engine.dialect


class Prepared:
    """A statement whose parameters are given as tuples, in the order of ``names``.

    Args:
        statement: with a bind parameter for each name.
        names: order of the tuples' values.
    """

    def __init__(self, statement: sa.UpdateBase | sa.Select[Any], names: Sequence[str]) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._compile = cache(self._compiled)

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute for every row."""
        if rows:
            sql = self._compile(connection.dialect)
            connection.exec_driver_sql(sql, list(rows))

    def first(self, connection: Connection, *values: Any) -> Any:
        """Execute once; the first row that it gives, or None."""
        return connection.exec_driver_sql(self._compile(connection.dialect), values).first()

    def _compiled(self, dialect: Dialect) -> str:
        if dialect.name == "postgresql":
            # by position, too
            dialect = _by_position()
        compiled = self._statement.compile(dialect=dialect, column_keys=list(self._names))
        order = tuple(getattr(compiled, "positiontup", None) or ())
        if order != self._names:
            raise TypeError(f"parameters are bound in the order {order}, not {self._names}")
        return str(compiled)
