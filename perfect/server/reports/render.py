"""Writing a report piece by piece, so that a run with a million lines needs no more memory than a small one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain
from typing import Any

from markupsafe import Markup
from sqlalchemy import Connection

from perfect.server.engine import views
from perfect.server.pages import environment, style
from perfect.server.settings import ServerSettings
from perfect.server.store import logs
from perfect.server.store.records import RunRecord

# of the lines that are shown, so many are the first; the others are the last
_FIRST_LINES = 1_000
_PIECE = 64
_SIZES = 10_000

_sizes: OrderedDict[tuple[str, int, int], int] = OrderedDict()
_sizes_lock = threading.Lock()


def pieces(
    connection: Connection, run: RunRecord, settings: ServerSettings, now: int
) -> Iterator[bytes]:
    """The report of a run, in UTF-8.

    Args:
        connection: to read from; must stay open until the last piece is taken.
        run: of that run.
        settings: for its limits and the address of this backend.
        now: ms since the epoch.
    """
    shown = views.whole(
        connection,
        run,
        now,
        settings.base_path,
        log_lines=0,
        task_limit=settings.report_tasks,
    )
    lines, left_out = _lines(connection, run, settings.report_logs)
    stream = environment.get_template("report.html").stream(
        run=shown,
        lines=lines,
        left_out=left_out,
        log_url=f"{settings.base_path}/api/runs/{run.id}/logs",
        run_url=f"{settings.base_path}/runs/{run.id}",
        style=Markup(style()),  # our own file, not a client's
    )
    stream.enable_buffering(_PIECE)
    for piece in stream:
        yield piece.encode()


def size(connection: Connection, run: RunRecord, settings: ServerSettings, now: int) -> int:
    """How many bytes the report has; remembered until the run changes."""
    key = (run.id, run.modified, run.lines)
    with _sizes_lock:
        if key in _sizes:
            _sizes.move_to_end(key)
            return _sizes[key]
    counted = sum(len(piece) for piece in pieces(connection, run, settings, now))
    with _sizes_lock:
        _sizes[key] = counted
        if len(_sizes) > _SIZES:
            _sizes.popitem(last=False)
    return counted


def _lines(connection: Connection, run: RunRecord, limit: int) -> tuple[Iterator[Any], int]:
    """The lines to show, with None where lines are left out, and how many that are."""
    total = run.lines
    if total <= limit:
        return logs.between(connection, run.key, 1, total), 0
    first = min(_FIRST_LINES, limit // 2)
    last = total - (limit - first) + 1
    return (
        chain(
            logs.between(connection, run.key, 1, first),
            (None,),
            logs.between(connection, run.key, last, total),
        ),
        last - first - 1,
    )
