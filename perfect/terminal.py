"""The live line of a terminal: task, percentage and elapsed time while a flow runs.

It is drawn on stderr, only if that is a terminal, and gives way to everything else that is written.
"""

from __future__ import annotations

import os
import sys
import threading
from time import monotonic
from typing import TextIO

from perfect import ticker
from perfect.text import printable
from perfect.ticker import Progress

REDRAW = 0.1  # s between two drawings

lock = threading.RLock()  # held while something is written to a terminal that shows the line
_users = 0
line: _Line | None = None


class _Line:
    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.shown = False
        self.at_line_start = True  # whether the cursor stands where a line begins
        self._last = 0.0
        self.unwatch = ticker.watch_progress(self.draw)

    def draw(self, progress: Progress) -> None:
        now = monotonic()
        if now - self._last < REDRAW or not self.at_line_start:
            return
        self._last = now
        width = max(20, min(self._columns(), 120))
        filled = progress.percent * 20 // 100
        text = (
            f"▶ {progress.flow} · {progress.task} "
            f"{'━' * filled}{'─' * (20 - filled)} {progress.percent:3d} % · {progress.elapsed:.1f} s"
        )
        with lock:
            # The last run may have ended since the ticker looked.
            if self.at_line_start and line is self:
                self._write(f"\r\x1b[2K{printable(text)[: width - 1]}")
                self.shown = True

    def erase(self) -> None:
        if self.shown:
            self.shown = False
            self._write("\r\x1b[2K")

    def _write(self, text: str) -> None:
        try:
            self.out.write(text)
            self.out.flush()
        except (OSError, ValueError):  # the terminal is gone: no reason to fail a flow
            pass

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.out.fileno()).columns or 80
        except (OSError, ValueError):
            return 80


def attach() -> None:
    """A run begins: show the line if stderr is a terminal."""
    global _users, line
    with lock:
        _users += 1
        out = sys.__stderr__
        if _users == 1 and out is not None and not out.closed and out.isatty():
            line = _Line(out)


def detach() -> None:
    """A run has ended; the last one takes the line away."""
    global _users, line
    with lock:
        _users -= 1
        if _users == 0 and line is not None:
            line.unwatch()
            line.erase()
            line = None


def after_fork() -> None:
    """In a forked child: the line is the parent's."""
    global lock, _users, line
    lock, _users, line = threading.RLock(), 0, None


def give_way(text: str) -> None:
    """Called with the lock held before `text` is written to a terminal."""
    if line is not None and text:
        line.erase()
        line.at_line_start = text.endswith("\n")
