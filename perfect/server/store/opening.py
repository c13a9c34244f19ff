"""Which database a path or URL means."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from perfect.errors import ConfigurationError
from perfect.server.store.database import Database
from perfect.server.store.postgres import PostgreSQL
from perfect.server.store.sqlite import SQLite


def open_database(where: str | os.PathLike[str]) -> Database:
    """Open a database, which is made or brought up to date where that is needed.

    Args:
        where: path of an SQLite file, a ``sqlite:///`` URL or a ``postgresql+psycopg://`` URL.

    Raises:
        ConfigurationError: it can't be opened.
        MissingExtra: the driver of PostgreSQL is not installed.
    """
    found = located(where)
    return SQLite(found) if isinstance(found, Path) else PostgreSQL(found)


def located(where: str | os.PathLike[str]) -> Path | sa.URL:
    """The path of an SQLite file, or the URL of a PostgreSQL database.

    Raises:
        ConfigurationError: it is neither.
    """
    text = os.fspath(where)
    if "://" in text:
        try:
            url = sa.make_url(text)
        except (ArgumentError, ValueError):
            raise ConfigurationError("db", "…", "is not a URL that can be read") from None
        if url.drivername in ("postgresql", "postgresql+psycopg") and url.database:
            return url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() != "sqlite" or not url.database:
            raise ConfigurationError(
                "db",
                url.render_as_string(),
                "is neither a path nor a sqlite:///… nor a postgresql+psycopg://…/… URL",
            )
        text = url.database
    return Path(text).expanduser().absolute()
