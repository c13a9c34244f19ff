"""Making the tables, and bringing those of an older perfect up to date."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from perfect.errors import ConfigurationError
from perfect.server.store.tables import SCHEMA_VERSION, meta, metadata

_VERSION = "schema_version"


def prepare(connection: Connection, name: str) -> None:
    """Make the tables, or bring them up to date, in the transaction that is open.

    Args:
        connection: in a transaction; what it is rolled back to is the database as it was.
        name: of the database, for messages.

    Raises:
        ConfigurationError: a newer perfect has written it.
    """
    version = version_of(connection, name)
    if version is None:
        metadata.create_all(connection)
        connection.execute(meta.insert().values(name=_VERSION, value=str(SCHEMA_VERSION)))
    elif version < SCHEMA_VERSION:
        # half a second that only an older database pays
        from perfect.server.store import migrations

        migrations.upgrade(connection, version)
        connection.execute(
            meta.update().where(meta.c.name == _VERSION).values(value=str(SCHEMA_VERSION))
        )


def version_of(connection: Connection, name: str) -> int | None:
    """The schema of a database; None for one that is empty.

    Raises:
        ConfigurationError: a newer perfect, or something else, has written it.
    """
    tables = sa.inspect(connection).get_table_names()
    if meta.name not in tables:
        if tables:
            raise ConfigurationError(
                "db", name, f"holds tables that are not perfect's ({', '.join(sorted(tables)[:3])})"
            )
        return None
    found = connection.execute(sa.select(meta.c.value).where(meta.c.name == _VERSION)).scalar()
    if found is None or not found.isdigit():
        raise ConfigurationError("db", name, "does not say which schema it has")
    if int(found) > SCHEMA_VERSION:
        raise ConfigurationError(
            "db",
            name,
            f"was written by a newer perfect (schema {found}, this one knows {SCHEMA_VERSION})",
        )
    return int(found)
