"""From older schemas to this one: an Alembic revision for each released schema, named like its number.

A new database is made from ``tables.py`` at once; a test holds that one which was brought up to date is the same.
The caller's transaction is the only one: a revision that fails leaves the database as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def upgrade(connection: Connection, version: int) -> None:
    """Bring a database from an older schema to this one.

    Args:
        connection: in a transaction; foreign keys are not enforced where tables may be made anew (SQLite).
        version: the schema it has.
    """
    scripts = ScriptDirectory(str(Path(__file__).parent))

    def steps(heads: Any, _context: MigrationContext) -> Any:
        return scripts._upgrade_revs("head", heads)

    context = MigrationContext.configure(connection, opts={"fn": steps})
    context.stamp(scripts, str(version))
    with Operations.context(context):
        context.run_migrations()
