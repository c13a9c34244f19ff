"""What the command prints: tables, states and times."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from datetime import UTC, datetime
from typing import Any

from perfect.text import printable

ICONS = {
    "PENDING": "○",
    "RUNNING": "▶",
    "RETRYING": "↻",
    "COMPLETED": "✓",
    "FAILED": "✗",
    "SKIPPED": "↷",
    "CANCELLED": "■",
}
_COLOURS = {"RUNNING": 36, "RETRYING": 33, "COMPLETED": 32, "FAILED": 31, "CANCELLED": 33}
_HARMLESS = re.compile(r"(\x1b\[[0-9;:]*m|\t)")
WIDEST = 48  # columns of one cell that is not the last


def use_colour() -> bool:
    """Whether stdout takes colours: a terminal, and NO_COLOR is not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def coloured(text: str) -> str:
    """A line from elsewhere as a terminal may show it: with its colours, but nothing else that a terminal obeys."""
    return "".join(
        part if _HARMLESS.fullmatch(part) else printable(part) for part in _HARMLESS.split(text)
    )


def show_state(state: str) -> str:
    """A state as icon and word."""
    return f"{ICONS.get(state, '?')} {state}"


def show_schedule(schedule: str | dict[str, Any] | None) -> str:
    """A schedule as it is registered, in a few words."""
    if not isinstance(schedule, dict):
        return schedule or ""
    words = [schedule.get("cron") or f"every {schedule.get('every_seconds')} s"]
    if schedule.get("timezone", "UTC") != "UTC":
        words.append(str(schedule["timezone"]))
    for option, usual in (("catchup", "skip"), ("overlap", "allow")):
        if schedule.get(option, usual) != usual:
            words.append(f"{option}={schedule[option]}")
    return " ".join(words)


def show_failure(run: dict[str, Any]) -> str:
    """Why a run has failed: its traceback, or what else there is."""
    error = run.get("error")
    if not error:
        return str(run.get("reason") or "FAILED")
    return (error.get("traceback") or f"{error.get('type')}: {error.get('message')}").rstrip()


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


class Table:
    """Columns of text, as wide as they need to be."""

    def __init__(self, *heads: str) -> None:
        self.heads = heads
        self.rows: list[tuple[str, ...]] = []

    def add(self, *cells: str) -> None:
        """Add a row."""
        self.rows.append(tuple(printable(cell) for cell in cells))

    def lines(self) -> list[str]:
        """The table's lines, the heads first."""
        shown = [
            tuple(
                c if len(c) <= WIDEST or i == len(row) - 1 else c[: WIDEST - 1] + "…"
                for i, c in enumerate(row)
            )
            for row in (self.heads, *self.rows)
        ]
        widths = [max(_width(row[i]) for row in shown) for i in range(len(self.heads))]
        lines = []
        for row in shown:
            cells = [cell + " " * (width - _width(cell)) for cell, width in zip(row, widths)]
            lines.append("  ".join(cells).rstrip())
        return lines

    def print(self, empty: str) -> int:
        """Print the table, or a sentence where there are no rows; returns 0."""
        if not self.rows:
            print(empty)
            return 0
        heads, *lines = self.lines()
        print(f"\x1b[1m{heads}\x1b[0m" if use_colour() else heads)
        for line in lines:
            print(_coloured(line))
        return 0


def _coloured(line: str) -> str:
    if use_colour():
        for state, colour in _COLOURS.items():
            word = show_state(state)
            if word in line:
                return line.replace(word, f"\x1b[{colour}m{word}\x1b[0m")
    return line


def parse_time(text: str | None) -> datetime | None:
    """An ISO 8601 time of the backend, or None."""
    return datetime.fromisoformat(text) if text else None


def ago(text: str | None) -> str:
    """How long ago a time was, roughly."""
    then = parse_time(text)
    return "" if then is None else ago_seconds((datetime.now(UTC) - then).total_seconds())


def ago_seconds(seconds: float) -> str:
    """The same for a number of s."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def seconds_between(start: str | None, end: str | None) -> str:
    """How long something took, in s; to now if it has not ended."""
    first, last = parse_time(start), parse_time(end)
    if first is None:
        return ""
    return f"{max(0.0, ((last or datetime.now(UTC)) - first).total_seconds()):.1f} s"
