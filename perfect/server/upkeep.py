"""``perfect db``: check, backup and vacuum of a database, also while a backend uses it."""

from __future__ import annotations

from pathlib import Path

from perfect.server.settings import perfect_home
from perfect.server.store import upkeep


def main(what: str, target: str | None = None, db: str | None = None) -> int:
    """Do it, and say what came of it; returns the exit code.

    Args:
        what: "check", "backup" or "vacuum".
        target: of a backup, the file.
        db: path or URL; None is the default database.

    Raises:
        ConfigurationError: it can't be done; says why.
    """
    where = db or perfect_home() / "perfect.db"
    if what == "backup":
        assert target is not None
        size = upkeep.backup(where, Path(target))
        print(f"{target}: {size:,} bytes")
        return 0
    if what == "vacuum":
        before, after = upkeep.vacuum(where)
        print(f"{before:,} bytes before, {after:,} now" if before else "done")
        return 0
    found = upkeep.check(where)
    for problem in found.problems:
        print(problem)
    if found.problems:
        return 1
    print(f"all is well: {found.runs:,} runs, {found.tasks:,} tasks, {found.lines:,} lines of log")
    return 0
